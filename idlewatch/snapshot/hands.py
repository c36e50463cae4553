"""
Who writes the small files of a restore: this process, or children of it.

Python runs one thread of a process at a time, and a small file is a dozen system calls that each let go of that turn
and wait for it again: threads spend more time on that than on the files. Children don't, but take a tenth of a second
to start, so they are for thousands of files. Whether a file is written, and in which order, is decided before.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import subprocess
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from idlewatch.children.interpreter import ours
from idlewatch.errors import SnapshotError
from idlewatch.snapshot.digests import digests_of
from idlewatch.snapshot.given import shown
from idlewatch.snapshot.kinds import FILE
from idlewatch.snapshot.pax import Member
from idlewatch.snapshot.target import InTheWayError, Target
from idlewatch.snapshot.written import Written

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CHILD: Final = "idlewatch.snapshot.hand_child"
_LENGTH_BYTES: Final = 8
_PIPE_BYTES: Final = 1024 * 1024
"""The most that anybody may have (/proc/sys/fs/pipe-max-size)."""
_ENDS_WITHIN_S: Final = 10.0


class NewFile(NamedTuple):
    """A small file that is to be written as it is, in the place of what stands there."""

    written: Written
    member: Member
    content: bytes


@dataclass(slots=True)
class Troubles:
    """What did not go as it was saved, by path; what was written is told in the files themselves."""

    in_the_way: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)


class Hand(Protocol):
    """One that writes files, a batch at a time and in order, below temporary names of its own."""

    def give(self, files: Sequence[NewFile]) -> None:
        """Have them written and each read back (`Written.proof`), now or soon."""
        ...

    def take(self) -> Troubles:
        """Wait for the oldest batch, and return what came of it. Raises SnapshotError where the target ends it."""
        ...

    def close(self) -> None:
        """Let go of the target; nothing is written any more."""
        ...


class OwnHand:
    """The process itself."""

    def __init__(self, path: Path, temporary: str) -> None:
        """`path` is the target, `temporary` one of TEMPORARIES that nobody else uses."""
        self._target = Target(path, temporary)
        self._given: deque[Sequence[NewFile]] = deque()

    def give(self, files: Sequence[NewFile]) -> None:
        """Keep them until they are asked for."""
        self._given.append(files)

    def take(self) -> Troubles:
        """Write the oldest batch."""
        return self.write(self._given.popleft())

    def write(self, files: Sequence[NewFile]) -> Troubles:
        """Write these."""
        troubles = Troubles()
        for new in files:
            path = new.written.path
            try:
                lacking = self._write(new)
            except InTheWayError as error:
                troubles.in_the_way[path] = str(error)
            except OSError as error:
                raise failed(path, error) from error
            else:
                if lacking:
                    troubles.attributes[path] = "; ".join(lacking)
        return troubles

    def _write(self, new: NewFile) -> list[str]:
        written, member, content = new
        target = self._target
        with target.made(written.path):
            fd = target.create(written.path, member)
            try:
                left = memoryview(content)
                while left:
                    left = left[os.write(fd, left) :]
                lacking = target.dress_new(fd, member)
                written.prove(fd)
            finally:
                os.close(fd)
        return lacking

    def close(self) -> None:
        """Close the target."""
        self._target.close()


def failed(path: str, error: OSError) -> SnapshotError:
    """Return the error of a restore that the target ended."""
    return SnapshotError(f"cannot restore {shown(path)}: {error.strerror}; what is back stays, run it again")


class ChildHand:
    """A child process. What it is sent and says are values of `marshal`: both run the same Python."""

    def __init__(self, path: Path, temporary: str) -> None:
        """Raises OSError where it can't be started."""
        self._process = subprocess.Popen(
            ours(_CHILD, str(os.getpid()), str(path), temporary),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # ctrl-c is for us, and we end it
        )
        self._given: deque[Sequence[NewFile]] = deque()
        with suppress(OSError):  # it only waits more often
            fcntl.fcntl(self._pipe(self._process.stdin), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def give(self, files: Sequence[NewFile]) -> None:
        """Send them, which waits where much of what was sent before is not read yet."""
        self._given.append(files)
        send(self._pipe(self._process.stdin), [as_values(new) for new in files])

    def take(self) -> Troubles:
        """Wait for its answer."""
        files = self._given.popleft()
        said = received(self._pipe(self._process.stdout))
        if said is None:
            status = self._process.wait()
            raise SnapshotError(f"a process of the restore has ended, exit status {status}: run it again")
        proofs, in_the_way, attributes, error = said
        if error is not None:
            raise SnapshotError(error)
        for new, proof in zip(files, proofs, strict=True):
            new.written.proof = proof
        return Troubles(in_the_way, attributes)

    def close(self) -> None:
        """Have it end, once it has written what it was sent."""
        with self._process, suppress(BrokenPipeError):
            self._pipe(self._process.stdin).close()
            try:
                self._process.wait(_ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _pipe(self, pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise SnapshotError("a process of the restore has no pipes")
        return pipe


def as_values(new: NewFile) -> tuple[Any, ...]:
    """Return a file as values that `marshal` takes."""
    written, member, content = new
    owner = (member.mode, member.uid, member.gid, member.mtime_ns, dict(member.xattrs))
    return (written.path, written.digest, written.digests.archive_format, *owner, content)


def of_values(values: tuple[Any, ...]) -> NewFile:
    """Return the file of `as_values`."""
    path, digest, archive_format, mode, uid, gid, mtime_ns, xattrs, content = values
    member = Member(path=path, kind=FILE, mode=mode, uid=uid, gid=gid, mtime_ns=mtime_ns, xattrs=xattrs)
    return NewFile(Written(path, digest, digests_of(archive_format), len(content)), member, content)


def send(pipe: IO[bytes], values: Any) -> None:
    """Write one message, its length before it. A reader that has ended is found by `received`."""
    message = marshal.dumps(values)
    with suppress(BrokenPipeError):
        pipe.write(len(message).to_bytes(_LENGTH_BYTES, "little"))
        pipe.write(message)
        pipe.flush()


def received(pipe: IO[bytes]) -> Any:
    """Read one message; None: the writer has ended, also in the middle of one."""
    size = int.from_bytes(pipe.read(_LENGTH_BYTES), "little")
    message = pipe.read(size)
    return marshal.loads(message) if message and len(message) == size else None  # noqa: S302 - the other of us wrote it
