"""
The headers of a POSIX pax archive (IEEE Std 1003.1, "pax Interchange Format"), written and read.

Any tar unpacks what this writes: a ustar header, before it an extended header where ustar is too narrow. Beside the
standard's keywords it uses those that GNU tar and star agreed on: `ctime`, `SCHILY.xattr.*`, and `GNU.sparse.*` in
version 1.0 (GNU tar manual, "Storing Sparse Files"). Reading accepts what this writes and refuses the rest: an
archive that needs guessing is not one of ours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.kinds import BLOCK, CHAR, FIFO, FILE, FOLDER, SYMLINK

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK_BYTES: Final = 512
HARDLINK: Final = "hardlink"
END: Final = bytes(2 * BLOCK_BYTES)
MOST_HEADER_BYTES = 16 * 1024 * 1024
"""More than the longest path, link target and all xattrs together can need; a longer one is damage or an attack."""

_TYPES: Final = {FILE: b"0", HARDLINK: b"1", SYMLINK: b"2", CHAR: b"3", BLOCK: b"4", FOLDER: b"5", FIFO: b"6"}
KNOWN_KINDS: Final = frozenset(_TYPES)
_KINDS: Final = {code: kind for kind, code in _TYPES.items()}
_NS: Final = 1_000_000_000
_SPARSE_MAJOR: Final = b"GNU.sparse.major"
_XATTR: Final = b"SCHILY.xattr."
_ZEROS: Final = bytes(BLOCK_BYTES)


@dataclass(slots=True, kw_only=True)
class Member:
    """One member of an archive: what a header says of it."""

    path: str
    """Relative, without a leading or trailing `/`; bytes that are no UTF-8 as surrogates (PEP 383)."""
    kind: str
    mode: int = 0o644
    """The twelve permission bits."""
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    ctime_ns: int | None = None
    """When it last changed in the container it was saved in; only for the next save, never restored."""
    size: int = 0
    """Of a regular file as it stands on disk, holes included."""
    target: str = ""
    """Of a symlink, as it stands; of a hard link, the path of an earlier member."""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    sparse: bool = False
    stored: int = 0
    """Bytes that follow the header, without padding; a sparse file's map is part of them."""


def padding(size: int) -> bytes:
    """Return the zeros that fill the last block."""
    return _ZEROS[: -size % BLOCK_BYTES]


def encode(member: Member) -> bytes:
    """Return the header of a member, with an extended header before it where one is needed."""
    path = os.fsencode(member.path) + (b"/" if member.kind == FOLDER else b"")
    target = os.fsencode(member.target)
    records = _records(member, path, target)
    name = b"GNUSparseFile.0/" + path.rpartition(b"/")[2][:80] if member.sparse else path[:100]
    seconds = member.mtime_ns // _NS
    header = _ustar(
        name,
        _TYPES[member.kind],
        member.mode,
        uid=member.uid if member.uid <= 0o7777777 else 0,
        gid=member.gid if member.gid <= 0o7777777 else 0,
        size=member.stored if member.stored <= 0o77777777777 else 0,
        mtime=seconds if 0 <= seconds <= 0o77777777777 else 0,
        target=target[:100],
        device=member.device,
    )
    return _extended(records) + header if records else header


def _records(member: Member, path: bytes, target: bytes) -> bytes:
    parts = []
    if member.sparse:
        parts += [_record(_SPARSE_MAJOR, b"1"), _record(b"GNU.sparse.minor", b"0")]
        parts += [_record(b"GNU.sparse.name", path), _record(b"GNU.sparse.realsize", b"%d" % member.size)]
    elif len(path) > 100 or not path.isascii():
        parts += [_charset(path), _record(b"path", path)]
    if len(target) > 100 or not target.isascii():
        parts += [_charset(target), _record(b"linkpath", target)]
    seconds, ns = divmod(member.mtime_ns, _NS)
    if ns or not 0 <= seconds <= 0o77777777777:
        parts.append(_record(b"mtime", _decimal(member.mtime_ns)))
    if member.ctime_ns is not None:
        parts.append(_record(b"ctime", _decimal(member.ctime_ns)))
    if member.stored > 0o77777777777:
        parts.append(_record(b"size", b"%d" % member.stored))
    if member.uid > 0o7777777:
        parts.append(_record(b"uid", b"%d" % member.uid))
    if member.gid > 0o7777777:
        parts.append(_record(b"gid", b"%d" % member.gid))
    for name, value in member.xattrs.items():
        # An equals sign would end the keyword: GNU tar escapes it and the percent sign so.
        keyword = os.fsencode(name).replace(b"%", b"%25").replace(b"=", b"%3D")
        parts.append(_record(_XATTR + keyword, value))
    return b"".join(parts)


def _charset(text: bytes) -> bytes:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return _record(b"hdrcharset", b"BINARY")
    return b""


def _record(keyword: bytes, value: bytes) -> bytes:
    """Return the length, a space, `KEYWORD=VALUE` and a newline; the length counts itself."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(b"%d" % rest)
    length = rest + len(b"%d" % length)
    return b"%d %b=%b\n" % (length, keyword, value)


def _decimal(mtime_ns: int) -> bytes:
    seconds, ns = divmod(abs(mtime_ns), _NS)
    return b"%b%d.%09d" % (b"-" if mtime_ns < 0 else b"", seconds, ns)


def _extended(records: bytes) -> bytes:
    return _announcement(len(records)) + records + padding(len(records))


@lru_cache(maxsize=1024)
def _announcement(size: int) -> bytes:
    return _ustar(b"pax", b"x", 0o644, size=size)


_TAIL: Final = b"ustar\x0000" + bytes(64) + b"%07o\0%07o\0" + bytes(167)


def _ustar(
    name: bytes,
    code: bytes,
    mode: int,
    *,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    target: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    front = name.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    back = code + target.ljust(100, b"\0") + _TAIL % device
    blanks = 8 * 0x20
    return front + b"%06o\0 " % (sum(front) + sum(back) + blanks) + back


def is_extended(block: bytes) -> bool:
    """Tell whether this header block only announces an extended header."""
    return block[156:157] == b"x"


@lru_cache(maxsize=1024)
def block_size(block: bytes) -> int:
    """Return the bytes that follow this header block. Raises SnapshotError for damage."""
    _prove_sum(block)
    return _octal(block[124:136])


def _prove_sum(block: bytes) -> None:
    told = _octal(block[148:156])
    filled = (block[:148] + block[156:]).translate(None, b"\0")  # a header is mostly zeros, which add nothing
    if sum(filled) + 8 * 0x20 != told or block[257:265] != b"ustar\x0000":
        raise SnapshotError("the archive is damaged: a header does not fit its own sum")


@lru_cache(maxsize=4096)
def _octal(field_bytes: bytes) -> int:
    text = field_bytes.rstrip(b"\0 ")
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise SnapshotError("the archive is damaged: a header has a field that is no octal number")
    return int(text, 8)


def decode(block: bytes, extended: bytes = b"") -> Member:
    """Return what a header block and the extended header before it say. Raises SnapshotError for damage."""
    stored = block_size(block)
    records = _parse_records(extended)
    kind = _KINDS.get(block[156:157])
    if kind is None:
        raise SnapshotError(f"the archive has a member of the unknown type {block[156:157]!r}")
    sparse = _SPARSE_MAJOR in records
    stored = _number(records, b"size", stored)
    path = records.get(b"GNU.sparse.name" if sparse else b"path", _text(block[0:100]))
    return Member(
        path=os.fsdecode(path.removesuffix(b"/") if kind == FOLDER else path),
        kind=kind,
        mode=_octal(block[100:108]),
        uid=_number(records, b"uid", _octal(block[108:116])),
        gid=_number(records, b"gid", _octal(block[116:124])),
        mtime_ns=_time_ns(records, b"mtime", _octal(block[136:148]) * _NS),
        ctime_ns=_time_ns(records, b"ctime", 0) if b"ctime" in records else None,
        size=_number(records, b"GNU.sparse.realsize", stored) if sparse else stored,
        target=os.fsdecode(records.get(b"linkpath", _text(block[157:257]))),
        device=(_octal(block[329:337]), _octal(block[337:345])) if kind in {CHAR, BLOCK} else (0, 0),
        xattrs={_xattr_name(key): value for key, value in records.items() if key.startswith(_XATTR)},
        sparse=sparse,
        stored=stored,
    )


def _text(field_bytes: bytes) -> bytes:
    return field_bytes.split(b"\0", 1)[0]


def _xattr_name(keyword: bytes) -> str:
    return os.fsdecode(keyword.removeprefix(_XATTR).replace(b"%3D", b"=").replace(b"%25", b"%"))


def _number(records: Mapping[bytes, bytes], keyword: bytes, default: int) -> int:
    value = records.get(keyword)
    if value is None:
        return default
    if not value.isdigit() or len(value) > 19:
        raise SnapshotError(f"the archive is damaged: {os.fsdecode(keyword)} is no number")
    return int(value)


def _time_ns(records: Mapping[bytes, bytes], keyword: bytes, default_ns: int) -> int:
    value = records.get(keyword)
    if value is None:
        return default_ns
    whole, _, fraction = value.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or len(whole) > 12 or not (fraction.isdigit() and len(fraction) == 9):
        raise SnapshotError(f"the archive is damaged: {os.fsdecode(keyword)} is no number")
    magnitude = int(whole) * _NS + int(fraction)
    return -magnitude if value.startswith(b"-") else magnitude


def _parse_records(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            raise SnapshotError("the archive is damaged: an extended header has no length")
        end = at + int(digits)
        keyword, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n" or not equals:
            raise SnapshotError("the archive is damaged: an extended header has a wrong length")
        records[keyword] = value
        at = end
    return records


def encode_map(segments: list[tuple[int, int]], size: int) -> bytes:
    """Return the map of a sparse file, padded: the number of segments, then offset and length of each."""
    if not segments or sum(segments[-1]) < size:
        segments = [*segments, (size, 0)]
    numbers = [len(segments), *(number for segment in segments for number in segment)]
    raw = b"".join(b"%d\n" % number for number in numbers)
    return raw + padding(len(raw))


def decode_map(numbers: list[int], size: int) -> list[tuple[int, int]]:
    """Return the segments of `encode_map` from its numbers without the first. Raises SnapshotError for damage."""
    segments = list(zip(numbers[::2], numbers[1::2], strict=True))
    end = 0
    for offset, length in segments:
        if offset < end or offset + length > size:
            raise SnapshotError("the archive is damaged: the segments of a sparse file overlap or pass its end")
        end = offset + length
    return segments
