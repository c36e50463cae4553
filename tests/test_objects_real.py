"""Snapshots against an S3 that others wrote: moto's server, in an environment of its own."""

from __future__ import annotations

import random
import socket
import subprocess
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest

from idlewatch.snapshot import Key, Objects, SaveRequest, find, new_key, restore, save, snapshots, verify
from tests.snapshot_trees import POD, state, write
from tests.waiting import comes

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
KEY = Key(new_key())


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("moto")
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", "moto[server]>=5"], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [folder / "bin/moto_server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    ) as server:
        try:
            assert comes(lambda: answers(found), 60.0)
            yield found
        finally:
            server.terminate()


def answers(address: str) -> bool:
    """Whether it answers; it makes the bucket on the way."""
    try:
        request = urllib.request.Request(f"{address}/bucket", method="PUT")  # noqa: S310 - http on loopback
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - likewise
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def test_saved_listed_brought_back_and_pruned(tmp_path: Path, address: str) -> None:
    options = {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto-secret", "AWS_ENDPOINT_URL": address}
    objects = Objects(url="s3://bucket/some/prefix", options=options, lock=tmp_path / "lock")
    root, back = tmp_path / "root", tmp_path / "back"
    write(root / "big", random.Random(1).randbytes(40_000_000))
    request = SaveRequest(objects=objects, pod_id=POD, boot_key="b", root=root, key=KEY, keep=2)
    first = save(request)
    write(root / "later", "more")
    second = save(request)
    assert first is not None
    assert second is not None
    assert second.base == first.id
    assert [one.id for one in snapshots(objects, POD)] == [second.id, first.id]
    verify(found := find(objects, POD), key=KEY)
    back.mkdir()
    restore(found, back, key=KEY)
    assert state(back) == state(root)
    names = [meta["path"] for chunk in obstore.list(objects.connected(POD)) for meta in chunk]
    assert f"{first.archive}.00002.last" in names
    for number in range(3):
        write(root / "later", f"{number}" * 50_000_000)
        save(request)
    assert len(snapshots(objects, POD)) == 2
