"""
What takes long or reads the volume, asked of the command line in a child process: a volume that hangs hangs that child.

Started by a button and polled by the page: a proxy ends a request after 100 s (RunPod's does), a scan may take longer.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from idlewatch.model import Json

VERBS = {"loss": ("loss", "--json"), "snapshots": ("snapshots", "--json")}
_WITHIN_S = 900.0

Runs = Callable[[Sequence[str]], Awaitable[tuple[int, str, str]]]
"""Runs a verb; gives exit status, standard output and standard error."""


class Measured:
    """The newest answer of each verb; at most one of each runs at a time."""

    def __init__(self, runs: Runs | None = None) -> None:
        self._runs = runs or run_verb
        self._answers: dict[str, Json] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str) -> None:
        """Begin to measure, unless that is under way. Raises KeyError for a name that is none."""
        words = VERBS[name]
        if name not in self._running:
            self._answers.pop(name, None)
            self._running[name] = asyncio.create_task(self._measure(name, words))

    def answer(self, name: str) -> dict[str, Json]:
        """Return `state` (`none`, `running`, `done`, `failed`) with `answer` or `why`."""
        if name in self._running:
            return {"state": "running"}
        told = self._answers.get(name)
        return told if isinstance(told, dict) else {"state": "none"}

    async def _measure(self, name: str, words: Sequence[str]) -> None:
        try:
            status, out, err = await self._runs(words)
            self._answers[name] = _told(status, out, err)
        except (OSError, TimeoutError) as error:
            self._answers[name] = {"state": "failed", "why": str(error) or "it took longer than 15 minutes"}
        finally:
            del self._running[name]


def _told(status: int, out: str, err: str) -> Json:
    if status:
        return {
            "state": "failed",
            "why": (err.strip().splitlines() or ["no reason given"])[-1].removeprefix("idlewatch: "),
        }
    try:
        return {"state": "done", "answer": json.loads(out)}
    except ValueError:
        return {"state": "failed", "why": "its answer is no JSON"}


async def run_verb(words: Sequence[str]) -> tuple[int, str, str]:
    """Run one verb of ours to its end, gently. Raises TimeoutError where it takes too long, OSError where it can't."""
    child = await asyncio.create_subprocess_exec(
        "nice",
        "-n",
        "10",
        sys.executable,
        "-m",
        "idlewatch",
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_WITHIN_S):
            out, err = await child.communicate()
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
    return child.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")
