"""Children that write the small files of a restore: what they do is the same, and none outlives its parent."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import restore, snapshots
from idlewatch.snapshot.digests import digests_of
from idlewatch.snapshot.hands import ChildHand, Hand, NewFile, OwnHand, received, send
from idlewatch.snapshot.manifest import FORMAT
from idlewatch.snapshot.pax import Member
from idlewatch.snapshot.target import TEMPORARIES
from idlewatch.snapshot.written import Written
from tests.snapshot_trees import POD, content_digest, saved, state, write
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idlewatch.snapshot import Progress, Snapshot

FILES = 3_000
ONCE = """
import sys
from pathlib import Path
from idlewatch.snapshot import find, restore
restore(find(Path(sys.argv[1]), "pod1"), Path(sys.argv[2]))
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """More small files than this process writes alone, some of them with an attribute, an odd name or a mode."""
    root = tmp_path_factory.mktemp("many") / "root"
    for number in range(FILES):
        path = write(root / f"folder{number // 100}" / f"file{number}", f"{number}" * (number % 50))
        path.chmod(0o600 + number % 64)
    write(root / "folder9" / os.fsdecode(b"odd\xff"), "odd")
    os.setxattr(root / "folder29/file2999", "user.mine", b"\0kept")
    return saved(root, root.parent / "volume")


def hand_children(of: int | None = None) -> list[psutil.Process]:
    return [child for child in psutil.Process(of).children() if is_hand(child)]


def is_hand(process: psutil.Process) -> bool:
    try:
        return "idlewatch.snapshot.hand_child" in process.cmdline()
    except psutil.NoSuchProcess:  # or a zombie, which is one of its kind
        return False


def lives(child: psutil.Process) -> bool:
    try:
        return child.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def leftovers(target: Path) -> list[Path]:
    return list(target.rglob(".idlewatch-restoring*"))


def while_children_write(act: Callable[[list[psutil.Process]], None]) -> Callable[[Progress], None]:
    """Act once, at the first call in which there are children."""
    seen: list[psutil.Process] = []

    def look(progress: Progress) -> None:
        if progress.stage == "restore" and not seen and (found := hand_children()):
            seen.extend(found)
            act(found)

    return look


def test_thousands_of_files_are_written_by_children_and_are_as_saved(many: Snapshot, tmp_path: Path) -> None:
    wrote: list[psutil.Process] = []
    report = restore(many, tmp_path, progress=while_children_write(wrote.extend))
    assert wrote
    assert not hand_children()
    assert report.files == FILES + 1
    assert state(tmp_path) == state(Path(many.root))


def test_what_stands_in_the_way_of_a_child_is_told(many: Snapshot, tmp_path: Path) -> None:
    late = [f"folder{number}/file{number * 100}" for number in range(30)]
    for path in late:
        write(tmp_path / path / "own", "a folder")
    report = restore(many, tmp_path)
    assert set(report.in_the_way) == set(late)
    assert report.files == FILES + 1 - len(late)


def test_a_child_that_ends_ends_the_restore_and_the_next_one_goes_on(many: Snapshot, tmp_path: Path) -> None:
    def end(found: list[psutil.Process]) -> None:
        for child in found:
            child.kill()

    with pytest.raises(SnapshotError, match="a process of the restore has ended, exit status -9: run it again"):
        restore(many, tmp_path, progress=while_children_write(end))
    assert not hand_children()
    restore(many, tmp_path)
    assert state(tmp_path) == state(Path(many.root))
    assert not leftovers(tmp_path)


def test_children_end_with_a_restore_that_ends_suddenly(many: Snapshot, tmp_path: Path) -> None:
    volume = Path(many.folder).parents[2]
    assert snapshots(volume, POD)[0].id == many.id
    with subprocess.Popen([sys.executable, "-c", ONCE, str(volume), str(tmp_path)]) as once:
        until(lambda: hand_children(once.pid) or once.poll() is not None, "neither children nor an end")
        children = hand_children(once.pid)
        assert children, "the restore had ended before its children were seen"
        once.send_signal(signal.SIGKILL)
    until(lambda: not any(map(lives, children)), "children have outlived their parent")
    restore(many, tmp_path)
    assert state(tmp_path) == state(Path(many.root))
    assert not leftovers(tmp_path)


def new_file(path: str, content: bytes, *, digest_of: bytes | None = None, **fields: object) -> NewFile:
    digest = content_digest(content if digest_of is None else digest_of)
    member = Member(path=path, kind="file", size=len(content), uid=os.geteuid(), gid=os.getegid(), **fields)  # type: ignore[arg-type]
    return NewFile(Written(path, digest, digests_of(FORMAT), len(content)), member, content)


@pytest.fixture(params=[OwnHand, ChildHand])
def hand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hand]:
    made: Hand = request.param(tmp_path, TEMPORARIES[1])
    yield made
    made.close()


def test_a_hand_writes_and_proves(hand: Hand, tmp_path: Path) -> None:
    files = [new_file("a/b", b"x" * 5000, mode=0o640, mtime_ns=5), new_file("wrong", b"x", digest_of=b"y")]
    hand.give(files)
    troubles = hand.take()
    assert (troubles.in_the_way, troubles.attributes) == ({}, {})
    status = (tmp_path / "a/b").stat()
    assert ((tmp_path / "a/b").read_bytes(), status.st_mode & 0o7777, status.st_mtime_ns) == (b"x" * 5000, 0o640, 5)
    assert files[0].written.proof is not None
    assert files[1].written.proof is None


def test_a_hand_tells_what_it_could_not_do(hand: Hand, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    hand.give([new_file("link/x", b""), new_file("odd", b"", xattrs={"nobody.knows": b""})])
    hand.give([new_file("n" * 300, b"")])
    troubles = hand.take()
    assert troubles.in_the_way == {"link/x": "link is no folder there"}
    assert set(troubles.attributes) == {"odd"}
    with pytest.raises(SnapshotError, match=r"cannot restore n+: File name too long; what is back stays, run it again"):
        hand.take()


def test_a_message_that_is_cut_off_is_the_end_of_its_writer() -> None:
    send(whole := io.BytesIO(), [("path", b"content")])
    sent = whole.getvalue()
    assert received(io.BytesIO(sent)) == [("path", b"content")]
    assert [received(io.BytesIO(sent[:end])) for end in range(len(sent))] == [None] * len(sent)
