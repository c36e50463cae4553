"""
The daemon's supervisor where nobody else is one: in a stock image, started from its hook or by `idlewatch install`.

`python -m idlewatch.host.beside`: leaves the terminal and the shell that started it, and keeps one daemon alive until
it is asked to end. One of these a machine: the lock file has its PID in it. It is no child of the container's first
process, so it is not told when the container ends; `idlewatch exec` is.
"""

from __future__ import annotations

import fcntl
import os
import sys

from idlewatch.host import children
from idlewatch.host.exec_command import daemon_command, in_worker
from idlewatch.host.supervisor import Supervisor

LOCK = "/run/idlewatch-beside.lock"


def main(lock: str = LOCK) -> int:
    """Return 0 where all is well; also where nobody is needed: another one runs, or `exec` does, or it is a worker."""
    worker = in_worker(children.variables())
    if worker:
        children.say(f"idlewatch: a Serverless worker ({worker} is set): RunPod scales it; idlewatch stays away")
        return 0
    if _below_exec(os.getppid()):
        return 0
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    except OSError as error:
        children.say(f"idlewatch: {lock}: {error.strerror}")
        return 1
    if os.fork():
        return 0  # the hook that started us is waited for; the lock is the child's now
    os.setsid()
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return Supervisor(daemon_command(), None, name="idlewatch").run()


def _below_exec(pid: int) -> bool:
    """Whether a process, or one above it, is `idlewatch exec`, which keeps a daemon itself."""
    while pid > 0:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as opened:  # noqa: PTH123  (pathlib costs a megabyte)
                words = opened.read().split(b"\0")
            with open(f"/proc/{pid}/stat", "rb") as opened:  # noqa: PTH123  (likewise)
                pid = int(opened.read().rpartition(b")")[2].split()[1])
        except OSError:
            return False
        ours = [at for at, word in enumerate(words) if word.rpartition(b"/")[2] == b"idlewatch"]
        if ours and words[ours[0] + 1 : ours[0] + 2] == [b"exec"]:
            return True
    return False


def running(lock: str = LOCK) -> int | None:
    """The PID of the supervisor that runs; None where none does."""
    try:
        with open(lock, "rb") as opened:  # noqa: PTH123  (pathlib costs a megabyte)
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with open(lock, "rb") as opened:  # noqa: PTH123  (likewise)
            text = opened.read()
        return int(text) if text.isdigit() else None
    except OSError:
        return None
    return None


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
