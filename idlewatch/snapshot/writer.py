"""
Writes a tree into an archive, entry by entry, while programs may go on writing to it.

What is written of a file is always as long as its header says: one that shrinks meanwhile is filled up with zeros,
one that grows is cut. Both are found by a second look at the open file and named in `torn`; the caller writes them
again as a later member, which wins on unpacking.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from idlewatch.snapshot import pax
from idlewatch.snapshot.digests import told
from idlewatch.snapshot.index import index_line
from idlewatch.snapshot.kinds import FIFO, FILE, FOLDER, KINDS, SMALL_BYTES, SOCKET, SYMLINK, is_sparse
from idlewatch.snapshot.sink import PIECE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from idlewatch.snapshot.digests import Digest
    from idlewatch.snapshot.sink import Sink

TICK_NS: Final = 20_000_000
"""Twice the longest tick of a kernel's clock of files (HZ=100): two writes in one tick leave the same ctime."""
_VANISHED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
"""It is gone, or something else stands there now: the next look at the tree finds what."""
_NO_XATTRS: Final = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.ENODATA})
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class TreeWriter:
    """One archive in the making. `saved` tells what state of each path it holds; the newest member of a path wins."""

    def __init__(
        self, root: str, sink: Sink, each_step: Callable[[int], None], now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """`root` is absolute, without a `/` at its end; `each_step` gets the bytes just read and may raise."""
        self._now_ns = now_ns
        self._root = root
        self._sink = sink
        self._each_step = each_step
        self._links: dict[tuple[int, int], str] = {}
        self.saved: dict[str, int] = {}
        """Path to ctime in nanoseconds as written: every change moves it, and nothing puts it back."""
        self.torn: set[str] = set()
        """What changed while it was read, or so shortly before that a further change could not be told."""
        self.errors: dict[str, str] = {}

    def begin_pass(self) -> None:
        """Begin to write entries again: hard links of this pass lead to members of this pass only."""
        self._links.clear()
        self.torn.clear()

    def add(self, path: str, kind: str) -> None:
        """
        Write one entry as it stands now; what can't be read goes to `errors`, what is gone is left out.

        `kind` is what the scan found; a regular file is opened at once and looked at only then.
        """
        try:
            if kind == FILE:
                self._add_file(path, f"{self._root}/{path}")
            else:
                self._add_other(path, f"{self._root}/{path}")
        except OSError as error:
            if error.errno not in _VANISHED:
                self.errors[path] = error.strerror or str(error)

    def _add_other(self, path: str, full: str) -> None:
        status = os.lstat(full)
        kind = KINDS[stat.S_IFMT(status.st_mode)]
        if kind not in {FILE, SOCKET} and not self._add_link(path, status):
            self._add_special(path, full, kind, status)

    def _add_link(self, path: str, status: os.stat_result) -> bool:
        """Write a hard link where another name of the same inode has been written in this pass."""
        if status.st_nlink < 2 or stat.S_ISDIR(status.st_mode):
            return False
        first = self._links.setdefault((status.st_dev, status.st_ino), path)
        if first == path:
            return False
        member = _member(path, pax.HARDLINK, status)
        member.target = first
        self._head(member, status)
        self._sink.note(index_line(member, None))
        return True

    def _add_special(self, path: str, full: str, kind: str, status: os.stat_result) -> None:
        member = _member(path, kind, status)
        if kind == SYMLINK:
            member.target = os.readlink(full)  # noqa: PTH115 - a Path would tidy the target
        elif kind not in {FOLDER, FIFO}:
            member.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
        member.xattrs = _xattrs(full)
        self._head(member, status)
        self._sink.note(index_line(member, None))

    def _add_file(self, path: str, full: str) -> None:
        fd = os.open(full, _OPEN)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or self._add_link(path, status):
                return
            self._add_content(path, fd, status)
        finally:
            os.close(fd)

    def _add_content(self, path: str, fd: int, status: os.stat_result) -> None:
        member = _member(path, FILE, status)
        member.size = member.stored = status.st_size
        member.xattrs = _xattrs(fd)
        if member.size <= SMALL_BYTES and not is_sparse(status):
            digest = self._put_small(member, fd, status)
        else:
            digest = self._put_large(member, fd, status)
        self._sink.note(index_line(member, digest))
        self._look_again(path, fd, status)

    def _put_small(self, member: pax.Member, fd: int, status: os.stat_result) -> bytes:
        """Write a member in one piece: most files are small, and each call costs."""
        content = self._read(member.path, fd, member.size, 0)
        self._head(member, status, content, pax.padding(member.size))
        self._each_step(member.size)
        return told(self._sink.digests.file(content))

    def _put_large(self, member: pax.Member, fd: int, status: os.stat_result) -> bytes:
        segments = _segments(fd, status.st_size) if is_sparse(status) else None
        sparse_map = b""
        if segments is not None:
            sparse_map = pax.encode_map(segments, member.size)
            member.sparse, member.stored = True, len(sparse_map) + sum(length for _, length in segments)
        self._head(member, status, sparse_map)
        digest = self._sink.digests.file()
        for offset, length in segments if segments is not None else [(0, member.size)]:
            self._copy(member.path, fd, offset, length, digest)
        self._sink.put(pax.padding(member.stored))
        return told(digest)

    def _copy(self, path: str, fd: int, offset: int, length: int, digest: Digest) -> None:
        end = offset + length
        while offset < end:
            piece = self._read(path, fd, min(PIECE_BYTES, end - offset), offset)
            digest.update(piece)
            self._sink.put(piece)
            self._each_step(len(piece))
            offset += len(piece)

    def _read(self, path: str, fd: int, size: int, offset: int) -> bytes:
        """Return so many bytes of the file, zeros where it has shrunk. A sector that can't be read is an error."""
        found = b""
        try:
            found = os.pread(fd, size, offset)
            while len(found) < size and (more := os.pread(fd, size - len(found), offset + len(found))):
                found += more
        except OSError as error:
            self.errors[path] = error.strerror or str(error)
        return found.ljust(size, b"\0")

    def _look_again(self, path: str, fd: int, before: os.stat_result) -> None:
        after = os.fstat(fd)
        fresh = 0 <= self._now_ns() - before.st_ctime_ns < TICK_NS
        if fresh or (after.st_ctime_ns, after.st_mtime_ns, after.st_size) != (
            before.st_ctime_ns,
            before.st_mtime_ns,
            before.st_size,
        ):
            self.torn.add(path)

    def _head(self, member: pax.Member, status: os.stat_result, *content: bytes) -> None:
        self._sink.put(pax.encode(member), *content)
        self.saved[member.path] = status.st_ctime_ns
        self.torn.discard(member.path)


def _member(path: str, kind: str, status: os.stat_result) -> pax.Member:
    return pax.Member(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
    )


def _xattrs(file: int | str) -> dict[str, bytes]:
    """Return all extended attributes of an open file or a path, file capabilities and ACLs among them."""
    follow = isinstance(file, int)
    try:
        names = os.listxattr(file, follow_symlinks=follow)
        return {name: os.getxattr(file, name, follow_symlinks=follow) for name in names} if names else {}
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return {}
        raise


def _segments(fd: int, size: int) -> list[tuple[int, int]] | None:
    """Return offset and length of each part that holds data; None where the file system can't tell."""
    segments: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
            at = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return segments
            return None
        if begin < size:
            segments.append((begin, at - begin))
    return segments
