"""Trees, archives and comparisons that the tests of the snapshot share."""

from __future__ import annotations

import os
import socket
import stat
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from idlewatch.snapshot import SaveRequest, Snapshot, pax, save
from idlewatch.snapshot.digests import digests_of, told
from idlewatch.snapshot.index import index_line
from idlewatch.snapshot.manifest import FORMAT
from idlewatch.snapshot.sink import Sink
from idlewatch.snapshot.store import Store
from idlewatch.snapshot.writer import TICK_NS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

POD = "pod1"
GIB = 1 << 30
MADE = "2026-11-24T00:00:00+00:00"


def request(root: Path, volume: Path, **changes: object) -> SaveRequest:
    volume.mkdir(exist_ok=True)
    values = {"volume": volume, "pod_id": POD, "boot_key": "boot1", "root": root, **changes}
    return SaveRequest(**values)  # type: ignore[arg-type]  # the changes are a test's own


def saved(root: Path, volume: Path, **changes: object) -> Snapshot:
    """Save a tree that rests: what changed a moment ago would be read twice."""
    time.sleep(1.5 * TICK_NS / 1e9)
    snapshot = save(request(root, volume, **changes))
    assert snapshot is not None
    return snapshot


def write(path: Path, content: bytes | str = b"x", mtime_ns: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if mtime_ns is not None:
        os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def birth(root: Path) -> int:
    """Return an instant after all that is under `root` and before all that follows, by that file system's clock."""
    newest = max(os.lstat(f"{folder}/{name}").st_ctime_ns for folder, a, b in os.walk(root) for name in [*a, *b])
    now_ns = _tick_after(root, newest)
    _tick_after(root, now_ns)
    return now_ns


def _tick_after(root: Path, instant_ns: int) -> int:
    """Wait until the clock that stamps files has passed an instant, and return what it shows then."""
    marker = root / ".marker"
    while True:
        marker.write_bytes(b"x")
        now_ns = marker.lstat().st_ctime_ns
        marker.unlink()
        if now_ns > instant_ns:
            return now_ns
        time.sleep(0.001)


def hostile_tree(root: Path) -> Path:
    """Fill `root` with what breaks naive archives."""
    root.mkdir()
    write(root / "plain.txt", "plain", 1_700_000_000_123_456_789)
    write(root / "empty", b"")
    write(root / "old", "before 1970", -1_500_000_001)
    write(root / "late", "after 2242", 8_600_000_000_000_000_007)
    _odd_names(root)
    _links(root)
    _sparse(root)
    _special(root)
    _modes(root)
    os.utime(root / "deep", ns=(5, 1_600_000_000_000_000_001))
    return root


def _odd_names(root: Path) -> None:
    for name in (
        "with space",
        "new\nline",
        "tab\t",
        "-rf",
        "*",
        "back\\slash",
        "quote'\"",
        "ünïcödé",
        "GNUSparseFile.0",
    ):
        write(root / "odd" / name, name)
    write(root / "odd" / os.fsdecode(b"latin-\xe9\xff"), b"not UTF-8")
    (root / "odd" / os.fsdecode(b"link-\xe9")).symlink_to(os.fsdecode(b"target-\xe9"))
    write(root / "odd" / ("n" * 255), "longest name")
    for length in (97, 98, 99, 100, 101, 102):
        write(root / "exact" / ("e" * (length - len("exact/"))), str(length))
    write(root.joinpath("deep", *("folder-of-thirty-characters-xyz" for _ in range(20)), "leaf"), "deep")
    (root / "odd" / "far").symlink_to("/nowhere/" + "t" * 300)


def _links(root: Path) -> None:
    write(root / "links" / "one", "shared")
    os.link(root / "links" / "one", root / "links" / "two")
    os.link(root / "links" / "one", root / "three")
    (root / "links" / "dangling").symlink_to("nowhere")
    (root / "links" / "absolute").symlink_to("/etc/passwd")
    os.link(root / "links" / "dangling", root / "links" / "dangling2", follow_symlinks=False)


def _sparse(root: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.truncate(GIB)
        for offset in (0, 5_000_000, GIB - 3):
            file.seek(offset)
            file.write(b"abc")
    with (root / "all-hole").open("wb") as file:
        file.truncate(GIB + 1)
    with (root / "hole-at-end").open("wb") as file:
        file.write(os.urandom(100_000))
        file.truncate(10_000_000)


def _special(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server, suppress(OSError):  # a long tmp_path does not fit a socket's name
        server.bind(str(root / "socket"))
    if os.geteuid() == 0:
        with suppress(PermissionError):
            os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))


def _modes(root: Path) -> None:
    as_root = (0o4755, 0o2755) if os.geteuid() == 0 else ()
    for mode in (0o600, 0o755, 0o444, 0o1644, *as_root):
        write(root / "modes" / f"{mode:o}", oct(mode)).chmod(mode)
    (root / "empty-folder").mkdir(mode=0o711)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    with suppress(OSError):  # no user attributes on this file system
        os.setxattr(root / "plain.txt", "user.idlewatch=100%", b"\0value\n")
        os.setxattr(root / "modes", "user.folder", b"f")
    if os.geteuid() == 0:
        os.chown(root / "plain.txt", 1234, 3_000_000)
        os.chown(root / "links" / "absolute", 77, 88, follow_symlinks=False)


State = dict[str, tuple[object, ...]]


def state(root: Path, *, times_ns: int = 1) -> State:
    """Return all that a restore must bring back, by path; `times_ns` is the grain of the mtimes compared."""
    found: State = {}
    inodes: dict[tuple[int, int], str] = {}
    for folder, folders, files in os.walk(root):
        for name in sorted(folders + files):
            full = f"{folder}/{name}"
            status = os.lstat(full)
            if stat.S_ISSOCK(status.st_mode):
                continue
            path = os.path.relpath(full, root)
            first = min(path, inodes.setdefault((status.st_dev, status.st_ino), path))
            found[path] = (*facts_of(full, status, times_ns), first)
    groups = {facts[-1]: path for path, facts in sorted(found.items(), reverse=True)}
    return {path: (*facts[:-1], groups[facts[-1]]) for path, facts in found.items()}


def facts_of(full: str, status: os.stat_result, times_ns: int = 1) -> tuple[object, ...]:
    content: object = None
    if stat.S_ISLNK(status.st_mode):
        content = str(Path(full).readlink())
    elif stat.S_ISREG(status.st_mode):
        content = (status.st_size, _content_digest(full))
    xattrs = {
        name: os.getxattr(full, name, follow_symlinks=False) for name in os.listxattr(full, follow_symlinks=False)
    }
    owner = (status.st_uid, status.st_gid, status.st_mode, status.st_rdev)
    return (*owner, status.st_mtime_ns // times_ns, content, sorted(xattrs.items()))


def _content_digest(full: str) -> str:
    """Hash what is not zero: the fixtures have gigabytes of holes."""
    digest = blake2b()
    with Path(full).open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            piece = os.pread(file.fileno(), 4096 - at % 4096, at)
            if piece.strip(b"\0"):
                digest.update(b"%d:" % at + piece.rstrip(b"\0"))
            at += len(piece)
    return digest.hexdigest()


def content_digest(content: bytes, archive_format: int = FORMAT) -> bytes:
    """What an index holds of a file with this content."""
    return told(digests_of(archive_format).file(content))


def made_snapshot(
    volume: Path,
    members: Sequence[tuple[pax.Member, bytes]],
    *,
    told: Mapping[str, pax.Member] | None = None,
    lines: Sequence[bytes] = (),
    archive_format: int = FORMAT,
    **changes: object,
) -> Snapshot:
    """
    Commit an archive of exactly these members, whatever they are, with a manifest that agrees with it.

    `told` are members that the index holds in the place of others, `lines` what it holds in the place of all.
    """
    volume.mkdir(exist_ok=True)
    store = Store(volume, POD)
    store.make()
    name = f"made{len(store.snapshots())}"
    folder = volume / ".idlewatch" / POD / "snapshots"
    digests = digests_of(archive_format)
    with (folder / f"{name}.tar.zst").open("wb") as file, Sink(file.write, 0, digests) as sink:
        for number, (member, content) in enumerate(members):
            member.size, member.stored = member.size or len(content), len(content)
            sink.put(pax.encode(member) + content + pax.padding(len(content)))
            digest = content_digest(content, archive_format) if member.kind == "file" else None
            line = index_line((told or {}).get(member.path, member), digest)
            sink.note(lines[number] + b"\n" if lines else line)
        sink.put(pax.END)
        index_at = sink.finish()
    lists = ("excluded", "mounts", "skipped", "sockets", "changing", "changed_after", "gone", "deleted", "notes")
    numbers = ("files", "folders", "total_bytes", "changed_after_files", "changed_after_bytes")
    values: dict[str, object] = dict.fromkeys(lists, ()) | dict.fromkeys(numbers, 0)
    values |= {"id": name, "pod_id": POD, "boot_key": "b", "created_at": MADE, "began_at": MADE, "root": "/x"}
    values |= {
        "image": None,
        "base": None,
        "locked": None,
        "began_s": None,
        "since_ns": None,
        "members": sink.members,
        "tar_bytes": sink.tar_bytes,
    }
    values |= {"archive": f"{name}.tar.zst", "archive_bytes": sink.packed_bytes, "archive_digest": sink.hexdigest()}
    values |= {"index_at": index_at, "version": "0", "format": archive_format, "folder": str(folder), **changes}
    snapshot = Snapshot(**values)  # type: ignore[arg-type]  # a table of fields
    store.commit(snapshot)
    return snapshot
