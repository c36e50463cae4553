"""
The index of an archive: a line of JSON for each member, in the order of the stream.

It tells what an archive holds without unpacking it: to a save what state of each path its base has, to a restore what
there is to plan. Hundreds of thousands of lines are written and read, so both go by the shortest way.
"""

from __future__ import annotations

from itertools import islice
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from idlewatch.errors import SnapshotError
from idlewatch.snapshot import pax
from idlewatch.snapshot.given import is_path, json_of, shown
from idlewatch.snapshot.kinds import FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_AT_ONCE: Final = 512
_NO_LIST: Final = "the archive is damaged: its index is no list of members"
_HEX: Final = 32
"""Digits of a file's checksum."""


def index_line(member: pax.Member, digest: bytes | None) -> bytes:
    """
    Return the index line of a member.

    Path, kind, size, mtime, the checksum of the bytes it stores, ctime, and of a hard link where it leads.
    """
    front, back = _around(member)
    return (f'{front}"{digest.hex()}"{back}\n' if digest is not None else f"{front}null{back}\n").encode()


def _around(member: pax.Member) -> tuple[str, str]:
    """Return what stands before and behind the checksum."""
    ctime = "null" if member.ctime_ns is None else member.ctime_ns
    link = f",{encode_basestring_ascii(member.target)}" if member.kind == pax.HARDLINK else ""
    front = f'[{encode_basestring_ascii(member.path)},"{member.kind}",{member.size},{member.mtime_ns},'
    return front, f",{ctime}{link}]"


class Fields(NamedTuple):
    """What a line says."""

    path: str
    kind: str
    size: int
    mtime_ns: int
    digest: bytes | None
    ctime_ns: int | None
    """None: the format did not tell it yet."""
    target: str
    """Of a hard link; empty where the format did not tell it yet."""


def fields_of(lines: Iterable[bytes]) -> Iterator[Fields]:
    """Yield what the lines say. Raises SnapshotError for one that says something else."""
    left = iter(lines)
    while some := list(islice(left, _AT_ONCE)):
        try:
            told = json_of(b"[" + b",".join(some) + b"]")
        except ValueError as error:
            raise SnapshotError(_NO_LIST) from error
        if len(told) != len(some):
            raise SnapshotError(_NO_LIST)
        yield from map(_fields, told)


def _fields(told: Any) -> Fields:
    try:
        path, kind, size, mtime_ns, hexadecimal, *more = told
        digest = bytes.fromhex(hexadecimal) if hexadecimal is not None else None
    except (ValueError, TypeError) as error:
        raise SnapshotError(_NO_LIST) from error
    ctime_ns, target = more[0] if more else None, more[1] if len(more) > 1 else ""
    numbers = type(size) is type(mtime_ns) is int and (ctime_ns is None or type(ctime_ns) is int)
    if not (numbers and type(kind) is str and kind in pax.KNOWN_KINDS and is_path(path) and is_path(target)):
        raise SnapshotError(_NO_LIST)
    return Fields(path, kind, size, mtime_ns, digest, ctime_ns, target)


def digest_told(member: pax.Member, line: bytes) -> bytes | None:
    """Return the checksum that the index has of a member. Raises SnapshotError where its line says something else."""
    if member.kind == FILE:
        front, back = _around(member)
        before, after = f'{front}"'.encode(), f'"{back}'.encode()
        if len(line) == len(before) + _HEX + len(after) and line.startswith(before) and line.endswith(after):
            return _fields_digest(line[len(before) : -len(after)])
    elif line + b"\n" == index_line(member, None):
        return None
    return _compared(member, line)


def _fields_digest(hexadecimal: bytes) -> bytes:
    try:
        return bytes.fromhex(hexadecimal.decode())
    except ValueError as error:
        raise SnapshotError(_NO_LIST) from error


def _compared(member: pax.Member, line: bytes) -> bytes | None:
    """Compare what a line says, however it is written: older formats tell less."""
    (found,) = fields_of([line])
    target = member.target if member.kind == pax.HARDLINK and found.target else ""
    expected = (member.path, member.kind, member.size, member.mtime_ns, found.digest, member.ctime_ns, target)
    if found != expected or (found.digest is None) != (member.kind != FILE):
        raise SnapshotError(f"the archive is damaged: {shown(member.path)} does not fit the index")
    return found.digest
