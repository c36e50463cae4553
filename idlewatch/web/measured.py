"""
What takes long or reads the volume, asked of the command line in a child process: a volume that hangs hangs that child.

Started by a button and polled by the page: a proxy ends a request after 100 s (RunPod's does), a scan may take longer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from idlewatch.errors import Refused
from idlewatch.model import Json

VERBS = {"loss": ("loss", "--json"), "snapshots": ("snapshots", "--json")}
_WITHIN_S = 900.0
_REPORT_WITHIN_S = 80.0
"""Less than the 100 s after which RunPod's proxy gives up."""

Runs = Callable[[Sequence[str]], Awaitable[tuple[int, str, str]]]
"""Runs a verb; gives exit status, standard output and standard error."""


class Measured:
    """The newest answer of each verb; at most one of each runs at a time."""

    def __init__(self, runs: Runs | None = None) -> None:
        self._runs = runs or run_verb
        self._answers: dict[str, Json] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._reporting = asyncio.Lock()

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

    async def report(self) -> str:
        """Return the report, a page by itself. Raises Refused where there is none."""
        async with self._reporting:
            with tempfile.TemporaryDirectory(prefix="idlewatch-") as folder:
                path = Path(folder) / "report.html"
                try:
                    async with asyncio.timeout(_REPORT_WITHIN_S):
                        status, _, err = await self._runs(("report", "--html", str(path), "--others-within", "5s"))
                except TimeoutError:
                    raise Refused("the report takes too long; `idlewatch report` writes it in a terminal") from None
                if status:
                    raise Refused(_last_words(err))
                return await asyncio.to_thread(path.read_text)

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
            "why": _last_words(err),
        }
    try:
        return {"state": "done", "answer": json.loads(out)}
    except ValueError:
        return {"state": "failed", "why": "its answer is no JSON"}


def _last_words(err: str) -> str:
    last = (err.strip().splitlines() or ["no reason given"])[-1]
    return last.removeprefix("idlewatch: ").removeprefix("refused: ")


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
