"""
Readings in the shapes that the signals read, made from what was observed of a life.

As in a Pod, a counter goes on from look to look, the first reading of a daemon covers nothing, and what a browser sends
over the provider's proxy shows only in the notebook server's own counters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.judgement.observed import Seen
from idlewatch.model import Json, Reading

TYPED_BYTES = 60.0
"""What one key in an editor sends over SSH: its message, and what the editor asks its server on account of it."""
HUM_BYTES_PER_S = 10.0
"""A keep-alive of 52 bytes each 5 s."""
_PEER = "10.0.0.5:22 203.0.113.7:50312"
_PERSON = "root from 203.0.113.7"
_ABSENT = {"jupyter": "no Jupyter server process", "servers": "none of 31 processes and 2 open ports is a known server"}


class Scribe:
    """Writes the readings of one start of a Pod: look after look."""

    def __init__(self, *, editor: bool, notebook: bool, server: bool, zero_s: float) -> None:
        """`zero_s`: the instant of the life's beginning; looks tell seconds from it."""
        self._editor, self._notebook, self._server, self._zero_s = editor, notebook, server, zero_s
        self._millijoules, self._received, self._acked = 0.0, 6000.0, 9000.0
        self._typed_s: float | None = None
        self._requests, self._tokens, self._cell_s = 12, 5100, 0.0

    def readings(self, looks: Sequence[Seen], step_s: float) -> Iterator[Reading]:
        """All readings of these looks."""
        for place, seen in enumerate(looks):
            at_s, covers_s = self._zero_s + seen.at_s, step_s if place else 0.0
            for name, told in self._facts(seen, at_s, covers_s).items():
                yield _reading(name, seen, at_s, covers_s, told)
            for name, why in _ABSENT.items():
                if not (self._notebook if name == "jupyter" else self._server):
                    yield Reading(signal=name, at_s=at_s, absent=why)

    def _facts(self, seen: Seen, at_s: float, covers_s: float) -> dict[str, dict[str, Any]]:
        told = {
            "gpu": self._gpu(seen, covers_s),
            "host": _host(seen, covers_s),
            "people": self._people(seen, at_s, covers_s),
            "jobs": _jobs(seen, covers_s),
            "transfers": _transfers(seen, covers_s),
        }
        if self._notebook:
            told["jupyter"] = self._jupyter(seen, at_s, covers_s)
        if self._server:
            told["servers"] = self._servers(seen)
        return told

    # ---------------------------------------------------------------- each signal

    def _gpu(self, seen: Seen, covers_s: float) -> dict[str, Any]:
        gpus = [
            {
                "index": place,
                "uuid": f"GPU-{place}",
                "util_max_pct": gpu.highest,
                "util_second_pct": gpu.highest if gpu.mean else 0.0,
                "util_mean_pct": gpu.mean,
                "samples": int(covers_s * 6),
                "instant": False,
                "covered_s": covers_s / 2 if seen.late else covers_s,
                "engines_max_pct": {},
                "energy_span_s": covers_s,
                "power_mean_w": seen.watts if gpu.mean or seen.late else min(seen.watts, 120.0),
                "mem_used_mib": seen.mib,
                "processes": int(seen.mib > 500),
            }
            for place, gpu in enumerate(seen.gpus)
        ]
        return {"gpus": gpus, "expected": len(gpus), "found": len(gpus), "gone": [], "driver": "570.86.15"}

    def _people(self, seen: Seen, at_s: float, covers_s: float) -> dict[str, Any]:
        told: dict[str, Any] = {"counted_at_s": at_s, "unseen": None, "terminals": [], "connections": []}
        if seen.connected is None:
            return told
        answers = seen.at_s < seen.connected.answers_until_s
        if answers:
            self._acked += 60 * covers_s
            self._received += HUM_BYTES_PER_S * covers_s + seen.keys * TYPED_BYTES
        told["connections"] = [self._connection(seen, answers=answers)]
        if not self._editor:
            self._typed_s = at_s - 1.0 if seen.keys else self._typed_s
            told["terminals"] = [self._terminal(seen)]
        return told

    def _connection(self, seen: Seen, *, answers: bool) -> dict[str, Json]:
        return {
            "id": _PEER,
            "kind": "ssh",
            "person": _PERSON,
            "started_at_s": self._since_s(seen),
            "terminal": not self._editor,
            "received_bytes": int(self._received),
            "acked_bytes": int(self._acked),
            "queued_bytes": 0 if answers else 640,
            "retransmits": 0 if answers else 6,
        }

    def _terminal(self, seen: Seen) -> dict[str, Json]:
        return {
            "name": "pts/1",
            "user": "root",
            "leader": "bash",
            "opened_at_s": self._since_s(seen),
            "input_at_s": self._typed_s,
            "kind": "ssh",
            "peers": [_PEER],
            "person": _PERSON,
        }

    def _since_s(self, seen: Seen) -> float:
        return self._zero_s + (seen.connected.from_s if seen.connected else 0.0)

    def _jupyter(self, seen: Seen, at_s: float, covers_s: float) -> dict[str, Any]:
        ran = seen.cells > 0 or seen.busy_kernel
        self._cell_s = at_s if seen.cells or not self._cell_s else self._cell_s
        kernel = {
            "id": "5f0c9a12",
            "kernel": "python3",
            "path": "train.ipynb",
            "state": "busy" if seen.busy_kernel else "idle",
            "connections": 0,
            "age_s": at_s - self._cell_s,
            "moved": seen.cells > 0,
            "local": True,
            "span_s": covers_s,
            "cpu_s": seen.cpu_cores * covers_s if ran else 0.0,
            "written_chars": 25_000 * seen.cells,
        }
        server = {"name": "Jupyter on port 8888", "at_s": at_s, "error": None, "absent": None, "terminals": 0}
        return {"servers": [{**server, "kernels": [kernel]}]}

    def _servers(self, seen: Seen) -> dict[str, Any]:
        self._requests += seen.asked
        self._tokens += 300 * seen.asked
        server: dict[str, Json] = {
            "id": "vllm 412 90",
            "name": "vLLM on port 8000",
            "kind": "vllm",
            "state": "asked",
            "error": None,
            "pid": 412,
            "pids": [412, 431],
            "started_s": self._zero_s,
            "requests": self._requests,
            "prompt_tokens": 2 * self._tokens,
            "generated_tokens": self._tokens,
            "steps": None,
            "running": 0,
            "marks": {},
            "counts_ours": False,
            "asked": 0,
            "cpu_cores": 0.02,
            "clients": 0,
            "inside": False,
        }
        return {"servers": [server], "missing": []}


def _reading(name: str, seen: Seen, at_s: float, covers_s: float, told: dict[str, Any]) -> Reading:
    if name == "gpu" and seen.unread:
        return Reading(signal=name, at_s=at_s, error="the driver does not answer")
    half = name == "gpu" and seen.late
    return Reading(signal=name, at_s=at_s, covers_s=covers_s / 2 if half else covers_s, facts=told)


def _host(seen: Seen, covers_s: float) -> dict[str, Any]:
    if not covers_s:
        return {"cpus": 16}
    return {
        "cpus": 16,
        "cpu_busy_s": (seen.cpu_cores + seen.hum_cores) * covers_s,
        "own_cpu_s": 0.003 * covers_s,
        "spun_cpu_s": 0.0,
        "span_s": covers_s,
        "net_bytes": seen.network * covers_s,
        "disk_bytes": seen.disk * covers_s,
        "mem_growth_mib": seen.grown_mib,
    }


def _jobs(seen: Seen, covers_s: float) -> dict[str, Any]:
    told: dict[str, Any] = {"trees": [], "tools": [], "unseen": None}
    if seen.job:
        tree = {"id": "700.1", "where": "tmux", "name": seen.job, "pid": 700, "cpu_s": seen.cpu_cores * covers_s}
        told["trees"] = [tree]
    if seen.commands:
        agent = {"id": "320.1", "where": "claude", "name": "claude", "pid": 320, "agent": True}
        told["tools"] = [{**agent, "read_bytes": 90_000, "write_bytes": 15_000, "children": 2 * seen.commands}]
    return told


def _transfers(seen: Seen, covers_s: float) -> dict[str, Any]:
    moved: dict[str, Any] = {"name": "hf", "pid": 701, "bytes": seen.moved * covers_s}
    tool = {"id": "tool connections:hf@700", "kind": "tool connections", "file": None, **moved}
    talk = {"id": "connections:agent@702", "kind": "connections", "name": "agent", "pid": 702, "file": None}
    talks = [{**talk, "bytes": seen.talks * covers_s}] if seen.talks else []
    return {"moving": [*([tool] if seen.moved else []), *talks], "unseen": None}
