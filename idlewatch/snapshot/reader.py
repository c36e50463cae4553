"""
Reads an archive back, strictly: what does not fit its index, its manifest or the format is refused.

`inspect` goes through a whole archive without writing anything. A save proves itself with it, and a restore lets it
pass over everything before it touches the first file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import pax
from idlewatch.snapshot.digests import digests_of, told
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.index import Fields, digest_told, fields_of
from idlewatch.snapshot.kinds import FILE, SMALL_BYTES
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
            if self._content_left:
                for _ in self.pieces():
                    pass
            self._source.read(self._padding)

    def content(self, member: pax.Member) -> Content:
        """Return what the member just yielded holds."""
        segments = self._map(member) if member.sparse else [(0, member.size)]
        if sum(length for _, length in segments) != self._content_left:
            raise SnapshotError(f"the archive is damaged: the map of {shown(member.path)} does not fit its content")
        return Content(segments, self)

    def whole(self) -> bytes:
        """Return what is left of a member in one piece."""
        size, self._content_left = self._content_left, 0
        return self._source.read(size)

    def pieces(self) -> Iterator[memoryview]:
        """Yield what is left of a member piece by piece."""
        return self._take(self._content_left)

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


class Content:
    """What a file in an archive holds: to be taken at once, or left."""

    __slots__ = ("pieces", "segments", "whole")

    def __init__(self, segments: list[tuple[int, int]], members: Members) -> None:
        self.segments = segments
        """Offset and length of what there is, in order; the rest are holes."""
        self.whole = members.whole
        self.pieces = members.pieces

    @property
    def is_small(self) -> bool:
        """Tell whether it is best taken as a whole."""
        return sum(length for _, length in self.segments) <= SMALL_BYTES


def _map_number(line: bytes) -> int:
    if not line.isdigit() or len(line) > 19:
        raise SnapshotError("the archive is damaged: the map of a sparse file holds no number")
    return int(line)


def _refuse_odd(member: pax.Member) -> None:
    _refuse_odd_entry(member.path, member.target, member.kind, max(member.size, member.stored))
    if max(member.uid, member.gid) > _MOST_ID:
        raise SnapshotError(f"the archive is refused: {shown(member.path)} has an owner that there can't be")
    if member.kind != FILE and member.sparse:
        raise SnapshotError(f"the archive is damaged: {shown(member.path)} is a {member.kind} with holes")


def _refuse_odd_entry(path: str, target: str, kind: str, size: int) -> None:
    if "\0" in path or "\0" in target or not _NO_NAMES.isdisjoint(path.split("/")):
        raise SnapshotError(f"the archive is refused: {shown(path)!r} would lie outside the target")
    if size > _MOST_BYTES:
        raise SnapshotError(f"the archive is refused: {shown(path)} has a size that there can't be")
    if kind != FILE and size:
        raise SnapshotError(f"the archive is damaged: {shown(path)} is a {kind} with content")


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
        yield members, member, digest_told(member, next(lines, b""))
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
) -> Iterator[tuple[pax.Member | Fields, bytes | None]]:
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
    for fields in fields_of(lines):
        count += 1
        _refuse_odd_entry(fields.path, fields.target, fields.kind, fields.size)
        yield fields, fields.digest
    _refuse_wrong_count(count, snapshot, lines)


def _digest(members: Members, member: pax.Member, digest: Digest) -> bytes:
    content = members.content(member)
    if content.is_small:
        digest.update(content.whole())
    else:
        for piece in content.pieces():
            digest.update(piece)
    return told(digest)


def prove(snapshot: Snapshot, each_chunk: Callable[[int], None], key: Key | None = None) -> None:
    """Read all of an archive again from where it is kept, not from memory. Raises SnapshotError unless it is whole."""
    with opened(snapshot, key) as file:
        file.stored.forget()
        for _ in inspect(file, snapshot, each_chunk, hash_content=True):
            pass
