"""
A long thing in object storage: pieces under numbered names, and how it is read at any place.

`NAME.00000`, `NAME.00001`, …, and at last `NAME.00007.last`: with that the thing is whole, without it a leftover that
anybody can see and remove. What a multipart upload leaves when its process dies is hidden, costs money, and can't be
listed by the library, so none is used. `cat NAME.*` puts the pieces together.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.shelf import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LAST: Final = ".last"
MOST_PIECES: Final = 100_000
_NAME: Final = re.compile(r"(.+)\.(\d{5})(\.last)?")
_BLOCK_BYTES: Final = 4 * 1024 * 1024
"""Read in one request: the way to a bucket and back takes as long as a megabyte or more."""
_AHEAD: Final = 4
_KEPT: Final = 10


def piece_name(name: str, number: int, *, last: bool) -> str:
    """The name of one piece."""
    return f"{name}.{number:05d}{LAST if last else ''}"


@dataclass(slots=True)
class Thing:
    """What lies under one name: a single object of that name, or pieces."""

    single: tuple[str, int] | None = None
    pieces: dict[int, tuple[str, int, bool]] = field(default_factory=dict)
    """Number to name, bytes, and whether it is the last."""
    written_s: float = 0.0

    @property
    def parts(self) -> list[tuple[str, int]] | None:
        """Names and bytes in order, where it is whole."""
        if self.single is not None:
            return [self.single]
        whole = [self.pieces[number] for number in sorted(self.pieces)]
        ends = [number for number, (*_, last) in self.pieces.items() if last]
        if ends != [len(whole) - 1] or set(self.pieces) != set(range(len(whole))):
            return None
        return [(name, size) for name, size, _ in whole]

    @property
    def names(self) -> list[str]:
        """Everything that belongs to it."""
        return [*([self.single[0]] if self.single else []), *(name for name, *_ in self.pieces.values())]

    def item(self, now_s: float) -> Item:
        """How it is listed."""
        return Item(sum(size for _, size in self.parts or ()), now_s - self.written_s, self.written_s)


def things(listed: Iterable[tuple[str, int, float]]) -> dict[str, Thing]:
    """Put together what a listing has: name, bytes and time of each object."""
    found: dict[str, Thing] = {}
    for name, size, written_s in listed:
        match = _NAME.fullmatch(name)
        thing = found.setdefault(match[1] if match else name, Thing())
        thing.written_s = max(thing.written_s, written_s)
        if match:
            thing.pieces[int(match[2])] = (name, size, match[3] is not None)
        else:
            thing.single = (name, size)
    return found


class StoredPieces:
    """One that is open for reading: in blocks, some of them ahead where it is read on and on, some kept for a while."""

    def __init__(self, parts: Iterable[tuple[str, int]], fetch: Callable[[str, int, int], bytes]) -> None:
        """`fetch` gets a name, an offset and a number of bytes, and returns so many or fewer; threads call it."""
        self._fetch = fetch
        self._spans: list[tuple[str, int, int]] = []
        self._starts: list[int] = []
        self.size_bytes = 0
        for name, size in parts:
            for offset in range(0, size, _BLOCK_BYTES):
                length = min(_BLOCK_BYTES, size - offset)
                self._spans.append((name, offset, length))
                self._starts.append(self.size_bytes)
                self.size_bytes += length
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._threads = ThreadPoolExecutor(_AHEAD, thread_name_prefix="idlewatch-objects")

    def read(self, at: int, most: int) -> bytes:
        """As of any stored thing."""
        if not 0 <= at < self.size_bytes:
            return b""
        number = bisect_right(self._starts, at) - 1
        begin = at - self._starts[number]
        return self._block(number).result()[begin : begin + most]

    def forget(self) -> None:
        """Drop what was kept."""
        with self._lock:
            self._blocks.clear()

    def close(self) -> None:
        """Ask for nothing more, and wait for what was asked for."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _block(self, number: int) -> Future[bytes]:
        with self._lock:
            ahead = _AHEAD if number - 1 in self._blocks else 0
            for one in range(number, min(number + ahead + 1, len(self._spans))):
                if one not in self._blocks:
                    self._blocks[one] = self._threads.submit(self._fetched, *self._spans[one])
                self._blocks.move_to_end(one)
            found = self._blocks[number]
            while len(self._blocks) > _KEPT:
                self._blocks.popitem(last=False)
            return found

    def _fetched(self, name: str, offset: int, length: int) -> bytes:
        block = self._fetch(name, offset, length)
        if len(block) != length:
            raise SnapshotError(f"the archive is damaged: {name} is shorter than it was")
        return block
