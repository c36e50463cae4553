"""
Runs one hook: with a deadline, its output kept as far as it is short, its whole process tree ended with it.

For a process that does nothing else (`trees`). A hook that is left before its end, because the stop is off, ends too.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO

from idlewatch.children import trees
from idlewatch.children.tasks import seldom
from idlewatch.durations import format_duration
from idlewatch.hooks.found import Hook, Stage
from idlewatch.hooks.words import on_one_line
from idlewatch.model import Json

OUTPUT_BYTES = 4000
"""What is kept of a hook's output: its end."""
_GENTLY_S = 2.0
_LOOK_EVERY_S = 0.2
_LAST_LINE_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HookEnd:
    """How one hook ended."""

    hook: Hook
    ok: bool
    how: str
    """`exit status 1`, `not done within 2m, so it was ended`, or why it was refused."""
    took_s: float = 0.0
    output: str = ""

    @property
    def text(self) -> str:
        """One line for people; of one that failed with the last line that it printed."""
        last = self.output.strip().rpartition("\n")[2]
        return (
            f"{self.hook.name}: {self.how}{f' ({on_one_line(last)[:_LAST_LINE_MAX]})' if last and not self.ok else ''}"
        )

    def as_event(self) -> dict[str, Json]:
        """As an event of the timeline."""
        kind = "hook refused" if self.hook.refused else "hook done" if self.ok else "hook failed"
        facts: dict[str, Json] = {"took_s": round(self.took_s, 1), "output": self.output}
        return {"kind": kind, "text": self.text, "facts": facts}


def run_hook(
    hook: Hook,
    environment: Mapping[str, str],
    within_s: float,
    progress: Callable[[Json], None],
    *,
    left: Callable[[HookEnd], object] = lambda _: None,
) -> HookEnd:
    """
    Run `hook` and return how it ended, `within_s` seconds later at the latest and a little for ending its tree.

    `progress` is told about once a second that it runs; `left` is told how it ended where an exception ends it.
    """
    began_s, before, output = time.monotonic(), trees.children(), bytearray()
    process, done, leaves = None, False, False
    try:
        process = _started(hook, environment)
        done = _followed(hook, process, output, began_s + within_s, progress)
        leaves = done and hook.stage is Stage.AFTER_START  # what it started in the background is why it is there
    except OSError as error:
        if process is not None:
            raise
        return HookEnd(hook=hook, ok=False, how=f"can't be started: {error.strerror}")
    except BaseException:
        left(HookEnd(hook=hook, ok=False, how="called off", took_s=time.monotonic() - began_s, output=_text(output)))
        raise
    finally:
        if not leaves:
            trees.end_children(spare=before, gently_s=0.0 if done else _GENTLY_S)
        if process is not None:
            _pipe(process).close()
    how = _how(process.wait()) if done else f"not done within {format_duration(within_s)}, so it was ended"
    ok = done and process.returncode == 0
    return HookEnd(hook=hook, ok=ok, how=how, took_s=time.monotonic() - began_s, output=_text(output))


def _started(hook: Hook, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [str(hook.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=dict(environment),
        preexec_fn=trees.end_with_parent,  # noqa: PLW1509  (a process with one thread)
    )
    os.set_blocking(_pipe(process).fileno(), False)
    return process


def _followed(
    hook: Hook,
    process: subprocess.Popen[bytes],
    output: bytearray,
    ends_s: float,
    progress: Callable[[Json], None],
) -> bool:
    """Wait for it, taking its output; returns whether it ended by itself in time."""
    say = seldom(progress)
    while process.poll() is None:
        left_s = ends_s - time.monotonic()
        if left_s <= 0:
            return False
        say({"stage": hook.stage.value, "hook": hook.path.name, "left_s": round(left_s)})
        if not _taken(process, output, min(_LOOK_EVERY_S, left_s)):
            time.sleep(_LOOK_EVERY_S / 4)
    _taken(process, output, 0.0)
    return True


def _taken(process: subprocess.Popen[bytes], output: bytearray, within_s: float) -> bool:
    """Take what it has written; returns False where its output is closed, so that waiting for it would spin."""
    pipe = _pipe(process)
    if not select.select([pipe], [], [], max(0.0, within_s))[0]:
        return True
    try:
        more = os.read(pipe.fileno(), 65536)
    except BlockingIOError:
        return True
    output += more
    del output[:-OUTPUT_BYTES]
    return bool(more)


def _how(status: int) -> str:
    return f"ended by signal {-status}" if status < 0 else f"exit status {status}"


def _text(output: bytearray) -> str:
    return output.decode(errors="replace").strip()


def _pipe(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdout is None:
        raise OSError("a hook without a pipe")
    return process.stdout
