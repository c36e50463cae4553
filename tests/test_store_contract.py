"""One contract for every place that snapshots go to: a folder, and object storage as three different stores."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.object_shelf import ObjectShelf
from idlewatch.snapshot.objects import Objects
from idlewatch.snapshot.pieces import things
from idlewatch.snapshot.shelf import FolderShelf, SaveUnderWay, Shelf
from tests.loopback_s3 import BUCKET, KEY_ID, SECRET, LoopbackS3, loopback_s3

PIECE = 1000
KINDS = ("folder", "memory", "local", "s3")


@pytest.fixture
def s3() -> Iterator[LoopbackS3]:
    with loopback_s3() as made:
        yield made


def s3_shelf(s3: LoopbackS3, tmp_path: Path, **more: str) -> ObjectShelf:
    objects = Objects(url=f"s3://{BUCKET}/some/prefix", options=s3.variables(**more), retries=1)
    lock, secrets = tmp_path / "state" / "lock", objects.secrets()
    return ObjectShelf(lambda: objects.connected("pod"), f"{objects.url}/pod", lock, secrets=secrets, piece_bytes=PIECE)


@pytest.fixture(params=KINDS)
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    lock = tmp_path / "state" / "lock"
    if request.param == "folder":
        (tmp_path / "volume").mkdir()
        yield FolderShelf(tmp_path / "volume/a/b/c", tmp_path / "volume")
    elif request.param == "memory":
        store = MemoryStore()
        yield ObjectShelf(lambda: store, "memory", lock, piece_bytes=PIECE)
    elif request.param == "local":
        local = LocalStore(tmp_path / "bucket", mkdir=True)
        yield ObjectShelf(lambda: local, "local", lock, piece_bytes=PIECE)
    else:
        yield s3_shelf(request.getfixturevalue("s3"), tmp_path)


def write(shelf: Shelf, name: str, *pieces: bytes, error: BaseException | None = None) -> None:
    with shelf.writing(name, sum(map(len, pieces))) as put:
        for piece in pieces:
            put(piece)
        if error is not None:
            raise error


def content_of(shelf: Shelf, name: str, step: int = 700) -> bytes:
    with shelf.opened(name) as stored:
        found = b""
        while chunk := stored.read(len(found), step):
            assert len(chunk) <= step
            found += chunk
        assert stored.size_bytes == len(found)
        return found


def test_nothing_is_there_before_anything_was_made(shelf: Shelf) -> None:
    assert shelf.contents().items == {}
    assert shelf.contents().leftovers == {}


def test_a_small_thing_is_read_as_it_was_put_and_replaced(shelf: Shelf) -> None:
    shelf.make()
    shelf.put("a.json", b"one")
    shelf.put("b.txt", b"")
    shelf.put("a.json", b"other")
    assert shelf.read("a.json") == b"other"
    assert {name: item.size_bytes for name, item in shelf.contents().items.items()} == {"a.json": 5, "b.txt": 0}
    assert all(item.age_s > -5 for item in shelf.contents().items.values())


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 7 * PIECE, 12 * PIECE + 345])
def test_a_long_thing_is_there_as_a_whole_from_its_commit_on(shelf: Shelf, size: int) -> None:
    shelf.make()
    content = random.Random(size).randbytes(size)
    with shelf.writing("x.tar.zst", size) as put:
        for at in range(0, size, 333):
            put(content[at : at + 333])
        assert "x.tar.zst" not in shelf.contents().items
        with pytest.raises(FileNotFoundError), shelf.opened("x.tar.zst"):
            pass
    assert {name: item.size_bytes for name, item in shelf.contents().items.items()} == {"x.tar.zst": size}
    assert shelf.contents().leftovers == {}
    assert content_of(shelf, "x.tar.zst") == content


def test_it_is_read_at_any_place_and_anew_after_forgetting(shelf: Shelf) -> None:
    shelf.make()
    content = random.Random(1).randbytes(5 * PIECE + 5)
    write(shelf, "x", content)
    with shelf.opened("x") as stored:
        for at in (0, 4999, PIECE - 1, PIECE, 3 * PIECE + 7, len(content) - 1):
            found = stored.read(at, 10)
            assert found
            assert content[at:].startswith(found)
            stored.forget()
        assert stored.read(len(content), 10) == b""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_writing_that_fails_leaves_nothing(shelf: Shelf, error: type[BaseException]) -> None:
    shelf.make()
    shelf.put("other", b"stays")
    with pytest.raises(error):
        write(shelf, "x", bytes(5 * PIECE), error=error())
    assert shelf.contents().items.keys() == {"other"}
    assert shelf.contents().leftovers == {}


def test_what_is_not_there_is_told_apart_from_what_fails(shelf: Shelf) -> None:
    shelf.make()
    with pytest.raises(FileNotFoundError) as caught:
        shelf.read("none")
    assert caught.value.strerror
    with pytest.raises(FileNotFoundError), shelf.opened("none"):
        pass
    shelf.remove(["none"])


def test_what_is_removed_is_gone_with_all_its_parts_and_nothing_else(shelf: Shelf) -> None:
    shelf.make()
    for name in ("x.tar.zst", "x.tar.zst.age", "y.tar.zst"):
        write(shelf, name, bytes(3 * PIECE))
    shelf.remove(["x.tar.zst"])
    assert shelf.contents().items.keys() == {"x.tar.zst.age", "y.tar.zst"}
    shelf.remove(["y.tar.zst", "x.tar.zst.age"])
    assert shelf.contents().items == shelf.contents().leftovers == {}


def test_saves_take_turns(shelf: Shelf) -> None:
    shelf.make()
    with shelf.locked() as locked:
        assert locked
        with pytest.raises(SaveUnderWay), shelf.locked():
            pass
    with shelf.locked():
        pass


def test_unfinished_pieces_are_leftovers_that_can_be_removed(s3: LoopbackS3, tmp_path: Path) -> None:
    shelf = s3_shelf(s3, tmp_path)
    write(shelf, "x", bytes(3 * PIECE + 1))
    names = sorted(s3.objects)
    assert [name.rpartition("/")[2] for name in names] == ["x.00000", "x.00001", "x.00002", "x.00003.last"]
    for lost in names:
        kept = s3.objects.pop(lost)
        assert shelf.contents().items == {}
        assert shelf.contents().leftovers.keys() == {"x"}
        with pytest.raises(FileNotFoundError), shelf.opened("x"):
            pass
        s3.objects[lost] = kept
    s3.objects.pop(names[-1])
    shelf.remove(shelf.contents().leftovers)
    assert s3.objects == {}


def test_pieces_put_together_in_the_order_of_their_names_are_the_thing(s3: LoopbackS3, tmp_path: Path) -> None:
    content = random.Random(3).randbytes(23 * PIECE + 17)
    write(s3_shelf(s3, tmp_path), "x", content)
    assert b"".join(s3.objects[name] for name in sorted(s3.objects)) == content


def test_pieces_grow_where_there_would_be_too_many(s3: LoopbackS3, tmp_path: Path) -> None:
    with s3_shelf(s3, tmp_path).writing("x", 100 * 1000**3) as put:
        put(bytes(3_000_000))
    assert max(map(len, s3.objects.values())) == 2_000_000


@pytest.mark.parametrize("at", [1, 4])
def test_a_service_that_refuses_a_piece_fails_the_writing(s3: LoopbackS3, tmp_path: Path, at: int) -> None:
    shelf = s3_shelf(s3, tmp_path)
    s3.instead = lambda method, key: (403, "AccessDenied") if key.endswith(f"x.0000{at}") and method == "PUT" else None
    with pytest.raises(SnapshotError, match="the key may not do that"):
        write(shelf, "x", *[bytes(PIECE)] * 9)
    assert s3.objects == {}


def test_a_fault_that_passes_is_tried_again(s3: LoopbackS3, tmp_path: Path) -> None:
    shelf, failed = s3_shelf(s3, tmp_path), set[tuple[str, str]]()

    def once(method: str, key: str) -> tuple[int, str] | None:
        first = (method, key) not in failed
        failed.add((method, key))
        return (503, "SlowDown") if first else None

    s3.instead = once
    content = random.Random(4).randbytes(5 * PIECE)
    write(shelf, "x", content)
    assert content_of(shelf, "x") == content
    assert len(failed) > 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "quite-another-secret"}, "the secret of the key is wrong"),
        ({"AWS_ACCESS_KEY_ID": "AKNOBODY"}, "the service does not know the key"),
    ],
)
def test_a_wrong_key_is_told_in_words_without_it(
    s3: LoopbackS3, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    shelf = s3_shelf(s3, tmp_path, **change)
    for asked in (shelf.contents, lambda: shelf.read("x"), lambda: shelf.put("x", b"")):
        with pytest.raises(SnapshotError) as caught:
            asked()
        assert said in str(caught.value)
        assert f"s3://{BUCKET}/some/prefix/pod" in str(caught.value)
        assert not any(secret in str(caught.value) for secret in (SECRET, "quite-another", "Signature="))


def test_no_part_of_a_key_is_in_an_error_that_repeats_it(s3: LoopbackS3, tmp_path: Path) -> None:
    """Also where only its beginning fits into what is told of a long answer."""
    for before in range(0, 220, 4):
        shelf = s3_shelf(s3, tmp_path)
        s3.instead = lambda method, key, before=before: (400, f"{'x' * before} {KEY_ID} {SECRET}")  # type: ignore[misc]  # bound at once
        with pytest.raises(SnapshotError) as caught:
            shelf.read("x")
        assert not any(part in str(caught.value) for part in (KEY_ID[:4], SECRET[:4]))


def test_the_parts_of_a_google_key_are_secret_each() -> None:
    key = {"type": "service_account", "private_key_id": "0a1b2c3d", "private_key": "-----BEGIN\nabc", "client_id": 1}
    found = set(Objects(url="gs://b", options={"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key)}).secrets())
    assert found == {json.dumps(key), "0a1b2c3d", "-----BEGIN\nabc"}
    for odd in ("", "{", "[]", "3"):
        assert set(Objects(url="gs://b", options={"GOOGLE_SERVICE_ACCOUNT_KEY": odd}).secrets()) == {odd}


def test_a_bucket_that_is_not_there_and_a_service_that_is_not(s3: LoopbackS3, tmp_path: Path) -> None:
    for url, address, said in (
        ("s3://no-bucket", s3.address, "there is no such bucket"),
        (f"s3://{BUCKET}", "http://127.0.0.1:9", "sending request"),
    ):
        objects = Objects(url=url, options=s3.variables(AWS_ENDPOINT_URL=address), retries=0)
        shelf = ObjectShelf(lambda objects=objects: objects.connected("pod"), url, tmp_path / "lock")  # type: ignore[misc]  # bound at once
        for asked in (shelf.contents, lambda shelf=shelf: shelf.put("x", b"")):
            with pytest.raises(SnapshotError, match=said):
                asked()


def test_content_that_does_not_come_back_whole_is_damage(s3: LoopbackS3, tmp_path: Path) -> None:
    shelf = s3_shelf(s3, tmp_path)
    write(shelf, "x", bytes(3 * PIECE))
    with shelf.opened("x") as stored:
        (key,) = [name for name in s3.objects if name.endswith(".00001")]
        s3.objects[key] = b"short"
        with pytest.raises(SnapshotError, match="shorter than it was"):
            stored.read(PIECE, 10)


def test_nothing_secret_is_in_a_repr(s3: LoopbackS3) -> None:
    objects = Objects(url=f"s3://{BUCKET}", options=s3.variables())
    told = f"{objects!r} {objects} {objects.connected('pod')!r}"
    assert SECRET not in told
    assert KEY_ID not in told


def test_without_its_variables_it_says_which(s3: LoopbackS3) -> None:
    whole = Objects(url=f"s3://{BUCKET}", options=s3.variables())
    assert whole.missing() is None
    bare = dataclasses.replace(whole, options={"AWS_ACCESS_KEY_ID": "x"})
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(bare.missing())
    with pytest.raises(SnapshotError, match="AWS_SECRET_ACCESS_KEY"):
        bare.connected("pod")


STREAM = """
import resource, sys
from idlewatch.snapshot.object_shelf import ObjectShelf
from idlewatch.snapshot.objects import Objects

endpoint, megabytes = sys.argv[1], int(sys.argv[2])
options = {"AWS_ACCESS_KEY_ID": "%s", "AWS_SECRET_ACCESS_KEY": "%s", "AWS_ENDPOINT_URL": endpoint}
objects = Objects(url="s3://%s", options=options)
shelf = ObjectShelf(lambda: objects.connected("pod"), "s3", piece_bytes=1024 * 1024)
shelf.contents().items
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with shelf.writing("x", 0) as write:
    for number in range(4 * megabytes):
        write(number.to_bytes(4, "big") * 65536)
with shelf.opened("x") as stored:
    assert stored.size_bytes == megabytes << 20
    at = 0
    while chunk := stored.read(at, 1 << 20):
        at += len(chunk)
    assert at == stored.size_bytes
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_memory_stays_bounded_however_long_the_stream_is(s3: LoopbackS3) -> None:
    """Pieces of 1 MiB, blocks of 4 MiB: what is in memory is some of each, not the stream."""
    program = STREAM % (KEY_ID, SECRET, BUCKET)
    call = [sys.executable, "-c", program, s3.address, "200"]
    grown_mib = int(subprocess.run(call, check=True, capture_output=True, text=True, timeout=100).stdout)
    assert sum(map(len, s3.objects.values())) == 200 << 20
    assert grown_mib < 100


def test_a_folder_is_named_where_it_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="is no folder"):
        FolderShelf(tmp_path / "missing/a/b/c", tmp_path / "missing").make()


@pytest.mark.parametrize("names", [["x.00000"], ["x.00001.last"], ["x.00000", "x.00002.last", "x.00005"]])
def test_a_thing_whose_pieces_do_not_fit_together_is_none(names: list[str]) -> None:
    assert things((name, 5, 0.0) for name in names)["x"].parts is None
