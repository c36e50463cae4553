"""
Those who write beside the thread that reads the archive of a restore.

What is written and whether is decided before, by that thread and in the order of the archive. A large file is written
by it, too, and read back beside it; small files are gathered and written by hands.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final, Self

from idlewatch.snapshot.beside import Beside
from idlewatch.snapshot.codec import usable_workers
from idlewatch.snapshot.hands import ChildHand, Hand, NewFile, OwnHand
from idlewatch.snapshot.target import TEMPORARIES, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from idlewatch.snapshot.report import RestoreReport
    from idlewatch.snapshot.written import Written

_BATCH_FILES: Final = 128
_BATCH_BYTES: Final = 1024 * 1024
_AHEAD: Final = 2
"""Batches that each hand may have."""
_BATCHES_ALONE: Final = 8
"""So many are written before children are started."""


class Crew:
    """To be closed, and then nothing is written any more."""

    def __init__(self, path: Path) -> None:
        """`path` is the target, which must be a folder."""
        self._path = path
        self._stack = ExitStack()
        self._reader = Target(path)
        self._stack.callback(self._reader.close)
        own = OwnHand(path, TEMPORARIES[1])
        self._stack.callback(own.close)
        self._hands: Sequence[Hand] = [own]
        self._given: deque[Hand] = deque()
        """Whose turn it was, for each batch that is not taken yet; each hand in turn, so the oldest ends first."""
        self._batches = 0
        # A large file is read for seconds, and those who write must not wait for their turn behind it.
        self._reading: Beside[None] = Beside()
        self._batch: list[NewFile] = []
        self._batch_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Have all end what they have begun; once more does nothing."""
        self._reading.close()
        self._stack.close()

    def write(self, new: NewFile, report: RestoreReport) -> None:
        """Have a file written and read back, soon. Raises SnapshotError for one that could not be written."""
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            self._flush(report)
        self._batch.append(new)
        self._batch_bytes += len(new.content)

    def read_back(self, written: Written) -> None:
        """Have a file read back that another thread has written."""
        self._reading.give(written.prove_in, self._reader)

    def settle(self, report: RestoreReport) -> None:
        """Wait until all is written and read back. Raises SnapshotError for what could not be written."""
        self._flush(report)
        while self._given:
            self._take(report)
        for _ in self._reading.rest():
            pass

    def compare(self, files: Sequence[Written]) -> Iterator[tuple[int, list[str]]]:
        """
        Look at all of them, and read what was not proven or has been touched since; once all is settled.

        Yields now and then how many bytes are right or were read, and which paths are not as they must be.
        """
        for at in range(0, len(files), _BATCH_FILES):
            some = files[at : at + _BATCH_FILES]
            wrong = [file.path for file in some if not file.is_right(self._reader)]
            yield sum(file.disk_bytes for file in some), wrong

    def _flush(self, report: RestoreReport) -> None:
        if not self._batch:
            return
        if self._batches == _BATCHES_ALONE:
            while self._given:
                self._take(report)
            self._hire()
        if len(self._given) >= _AHEAD * len(self._hands):
            self._take(report)
        hand = self._hands[self._batches % len(self._hands)]
        hand.give(self._batch)
        self._given.append(hand)
        self._batches += 1
        self._batch, self._batch_bytes = [], 0

    def _take(self, report: RestoreReport) -> None:
        troubles = self._given.popleft().take()
        report.in_the_way |= troubles.in_the_way
        report.attributes |= troubles.attributes

    def _hire(self) -> None:
        """Let children write in our place; where none can be started, we go on."""
        children: list[ChildHand] = []
        with suppress(OSError):
            for name in TEMPORARIES[1 : usable_workers() + 1]:
                children.append(ChildHand(self._path, name))
                self._stack.callback(children[-1].close)
        self._hands = children or self._hands
