"""
Reads an archive back, strictly: what does not fit its index, its manifest or the format is refused.

`inspect` goes through a whole archive without writing anything. A save proves itself with it, and a restore lets it
pass over everything before it touches the first file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import pax
from idlewatch.snapshot.digests import digests_of, told
from idlewatch.snapshot.given import is_path, json_of
from idlewatch.snapshot.kinds import FILE
from idlewatch.snapshot.packed import another, opened
from idlewatch.snapshot.source import Source, file_digest, index_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idlewatch.snapshot.age import Key
    from idlewatch.snapshot.digests import Digest
    from idlewatch.snapshot.manifest import Snapshot
    from idlewatch.snapshot.packed import Archive
    from idlewatch.snapshot.shelf import Stored

_MOST_SEGMENTS = 10_000_000
_NO_NAMES = frozenset({"", ".", ".."})
_MOST_BYTES, _MOST_ID = 2**63 - 1, 2**32 - 2
"""What the kernel takes; the id above that means none, see chown(2)."""
_LINKS_IN_INDEX_FROM = 3
"""The format from which an index tells where hard links lead."""


class Members:
    """The members of a tar stream in order. What is not taken of a member's content is passed over."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._content_left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[pax.Member]:
        while (member := self._next()) is not None:
            self._content_left, self._padding = member.stored, -member.stored % pax.BLOCK_BYTES
            yield member
            for _ in self._take(self._content_left):
                pass
            self._source.read(self._padding)

    def content(self, member: pax.Member) -> tuple[list[tuple[int, int]], Iterator[memoryview]]:
        """Return the segments (offset, bytes) of the member just yielded, and their bytes in order, piece by piece."""
        segments = self._map(member) if member.sparse else [(0, member.size)]
        if sum(length for _, length in segments) != self._content_left:
            raise SnapshotError(f"the archive is damaged: the map of {shown(member.path)} does not fit its content")
        return segments, self._take(self._content_left)

    def _next(self) -> pax.Member | None:
        block = self._source.read(pax.BLOCK_BYTES)
        if not block[0] and not any(block):
            if any(self._source.read(pax.BLOCK_BYTES)):
                raise SnapshotError("the archive is damaged: it ends with one empty block")
            return None
        extended = b""
        if pax.is_extended(block):
            size = pax.block_size(block)
            if size > pax.MOST_HEADER_BYTES:
                raise SnapshotError("the archive is damaged: an extended header is too long")
            both = self._source.read(size + -size % pax.BLOCK_BYTES + pax.BLOCK_BYTES)
            extended, block = both[:size], both[-pax.BLOCK_BYTES :]
        member = pax.decode(block, extended)
        _refuse_odd(member)
        return member

    def _take(self, size: int) -> Iterator[memoryview]:
        for piece in self._source.pieces(size):
            self._content_left -= len(piece)
            yield piece

    def _map(self, member: pax.Member) -> list[tuple[int, int]]:
        """Read the map of a sparse file, block by block: its length is known only from its content."""
        numbers: list[int] = []
        rest, wanted = b"", 1
        while len(numbers) < wanted:
            if self._content_left < pax.BLOCK_BYTES:
                raise SnapshotError(f"the archive is damaged: the map of {shown(member.path)} is cut short")
            rest += b"".join(bytes(piece) for piece in self._take(pax.BLOCK_BYTES))
            *lines, rest = rest.split(b"\n")
            numbers += [_map_number(line) for line in lines[: wanted - len(numbers)]]
            if wanted == 1 and numbers:
                wanted += 2 * min(numbers[0], _MOST_SEGMENTS)
                numbers += [_map_number(line) for line in lines[1:wanted]]
        return pax.decode_map(numbers[1:], member.size)


def _map_number(line: bytes) -> int:
    if not line.isdigit() or len(line) > 19:
        raise SnapshotError("the archive is damaged: the map of a sparse file holds no number")
    return int(line)


def _refuse_odd(member: pax.Member) -> None:
    if "\0" in member.path or "\0" in member.target or not _NO_NAMES.isdisjoint(member.path.split("/")):
        raise SnapshotError(f"the archive is refused: {shown(member.path)!r} would lie outside the target")
    if max(member.size, member.stored) > _MOST_BYTES or max(member.uid, member.gid) > _MOST_ID:
        raise SnapshotError(f"the archive is refused: {shown(member.path)} has a size or an owner that there can't be")
    if member.kind != FILE and (member.stored or member.sparse):
        raise SnapshotError(f"the archive is damaged: {shown(member.path)} is a {member.kind} with content")


def shown(path: str, *, keep: str = "") -> str:
    """Return a path that can be printed: what is no text is escaped, and what would steer a terminal, but `keep`."""
    return path if path.isprintable() else "".join(char if char in keep else _shown_char(char) for char in path)


def _shown_char(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(char)[1:-1]


def walk(
    file: Archive, snapshot: Snapshot, each_chunk: Callable[[int], None], *, digest: bool = True
) -> Iterator[tuple[Members, pax.Member, bytes | None]]:
    """
    Yield each member with its digest and the way to its content. Raises SnapshotError unless all of it is right.

    The length of the stream, the order of the members and their index must agree with the manifest, and with
    `digest` that of the whole file, too.
    """
    index_at, size = snapshot.index_at, snapshot.tar_bytes
    whole = digests_of(snapshot.format).archive()
    each_raw: Callable[[bytes], object] = whole.update if digest else lambda _: None
    source = Source(file, index_at=index_at, tar_bytes=size, each_chunk=each_chunk, each_raw=each_raw)
    # Beside the stream, so by a way of its own: an encrypted archive keeps what was opened last.
    lines = index_lines(another(file), index_at=index_at)
    count = 0
    for member in (members := Members(source)):
        count += 1
        yield members, member, _compare(member, next(lines, b""))
    _refuse_wrong_count(count, snapshot, lines)
    source.finish()
    if digest and whole.hexdigest() != snapshot.archive_digest:
        raise _wrong_digest(snapshot)


def _refuse_wrong_count(count: int, snapshot: Snapshot, lines: Iterator[bytes]) -> None:
    if count != snapshot.members or next(lines, None) is not None:
        raise SnapshotError("the archive is damaged: it has not the number of members that its manifest says")


class DamagedArchive(SnapshotError):
    """The bytes of an archive are not those that were saved."""

    def __init__(self, snapshot_id: str, text: str) -> None:
        super().__init__(text)
        self.snapshot_id = snapshot_id


def _wrong_digest(snapshot: Snapshot) -> SnapshotError:
    text = f"the archive is damaged: {snapshot.archive} has not the digest of its manifest"
    return DamagedArchive(snapshot.id, text)


def require_digest(stored: Stored, snapshot: Snapshot, each_chunk: Callable[[int], None]) -> None:
    """Read a whole archive once. Raises DamagedArchive unless it is, byte by byte, the one that was saved."""
    digest = digests_of(snapshot.format).archive()
    if file_digest(stored, snapshot.archive_bytes, digest, each_chunk) != snapshot.archive_digest:
        raise _wrong_digest(snapshot)


def inspect(
    file: Archive, snapshot: Snapshot, each_chunk: Callable[[int], None], *, hash_content: bool
) -> Iterator[tuple[pax.Member, bytes | None]]:
    """Walk through the whole archive; with `hash_content` each digest is compared with the bytes, too."""
    new = digests_of(snapshot.format).file
    for members, member, digest in walk(file, snapshot, each_chunk):
        if hash_content and member.kind == FILE and _digest(members, member, new()) != digest:
            raise SnapshotError(f"the archive is damaged: the content of {shown(member.path)} is not what was read")
        yield member, digest


def listed(
    file: Archive, snapshot: Snapshot, each_chunk: Callable[[int], None]
) -> Iterator[tuple[pax.Member, bytes | None]]:
    """
    Yield what a restore has to know of each member before it begins, once the digest of the whole file is right.

    An archive with that digest is the one that its save has proven member by member, so the index stands for it;
    that both agree is looked at again while it is unpacked.
    """
    if snapshot.format < _LINKS_IN_INDEX_FROM:
        yield from inspect(file, snapshot, each_chunk, hash_content=False)
        return
    require_digest(file.stored, snapshot, each_chunk)
    lines = index_lines(file, index_at=snapshot.index_at)
    count = 0
    for line in lines:
        count += 1
        member, digest = _listed(line)
        _refuse_odd(member)
        yield member, digest
    _refuse_wrong_count(count, snapshot, lines)


def _listed(line: bytes) -> tuple[pax.Member, bytes | None]:
    path, kind, size, _, digest, _, target = _fields(line)
    return pax.Member(path=path, kind=kind, stored=size, target=target), digest


def _compare(member: pax.Member, line: bytes) -> bytes | None:
    found = _fields(line)
    target = member.target if member.kind == pax.HARDLINK and found.target else ""
    expected = (member.path, member.kind, member.size, member.mtime_ns, found.digest, member.ctime_ns, target)
    if found != expected or (found.digest is None) != (member.kind != FILE):
        raise SnapshotError(f"the archive is damaged: {shown(member.path)} does not fit the index")
    return found.digest


class _Fields(NamedTuple):
    path: str
    kind: str
    size: int
    mtime_ns: int
    digest: bytes | None
    ctime_ns: int | None
    target: str
    """Of a hard link; empty where the format did not tell it yet."""


def _fields(line: bytes) -> _Fields:
    try:
        path, kind, size, mtime_ns, hexadecimal, *more = json_of(line)
        digest = bytes.fromhex(hexadecimal) if hexadecimal is not None else None
    except (ValueError, TypeError) as error:
        raise SnapshotError("the archive is damaged: its index is no list of members") from error
    fields = _Fields(path, kind, size, mtime_ns, digest, more[0] if more else None, more[1] if len(more) > 1 else "")
    numbers = (size, mtime_ns, 0 if fields.ctime_ns is None else fields.ctime_ns)
    known = type(kind) is str and kind in pax.KNOWN_KINDS and set(map(type, numbers)) == {int}
    if not (known and is_path(path) and is_path(fields.target)):
        raise SnapshotError("the archive is damaged: its index is no list of members")
    return fields


def _digest(members: Members, member: pax.Member, digest: Digest) -> bytes:
    for piece in members.content(member)[1]:
        digest.update(piece)
    return told(digest)


def prove(snapshot: Snapshot, each_chunk: Callable[[int], None], key: Key | None = None) -> None:
    """Read all of an archive again from where it is kept, not from memory. Raises SnapshotError unless it is whole."""
    with opened(snapshot, key) as file:
        file.stored.forget()
        for _ in inspect(file, snapshot, each_chunk, hash_content=True):
            pass
