"""
Work that goes on beside the thread that asked for it, in order, with errors that reach it.

Packing, unpacking, hashing and system calls let other threads run, so a second core takes its share. What was asked
for is bounded, and nothing runs on by itself: an owner that is given up leaves at most `depth` pieces of work.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

_T = TypeVar("_T")


class Beside(Generic[_T]):
    """One thread, or some, and the results of their work in the order in which it was given."""

    def __init__(self, *, threads: int = 1, depth: int = 4) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="idlewatch-snapshot")
        self._waiting: deque[Future[_T]] = deque()
        self._depth = depth

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._waiting)

    def give(self, work: Callable[..., _T], *arguments: Any) -> _T | None:
        """Have it done; where enough is waiting, return the oldest result first. Raises what that work raised."""
        oldest = self.take() if len(self._waiting) >= self._depth else None
        self._waiting.append(self._threads.submit(work, *arguments))
        return oldest

    def take(self) -> _T:
        """Return the oldest result. Raises what its work raised, IndexError where nothing was given."""
        return self._waiting.popleft().result()

    def rest(self) -> Iterator[_T]:
        """Yield all results that were not taken yet."""
        while self._waiting:
            yield self.take()

    def close(self) -> None:
        """Drop what has not begun, and wait for what has: afterwards nothing touches a file any more."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()
