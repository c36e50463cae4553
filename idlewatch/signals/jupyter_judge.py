"""
Who uses the kernels: pure, from readings of the Jupyter signal in their order.

What a server says of its kernels is not believed alone. `busy` may stand for days over nothing, and `last_activity` of
many versions moves with every reconnect. What proves an execution is what the kernel's own process did meanwhile:

- it is busy, and its tree used more than 2 % of a core since the last look;
- its last activity moved, and it wrote at least 8 KiB, which is IPython's history of what was run: 25 KB a cell,
  while a connection with all its questions writes 500 bytes (ipykernel 7.4, jupyter_server 2.21, measured);
- its last activity moved, and its tree used more than 2 % of a core: other languages, and cells of some length.

An idle kernel uses 0.006 % of a core, a question of a reconnecting tab 2 ms, a cell that sleeps nothing (measured).
Server and processes are not asked at the same instant, so what one look shows of one side only is set against the next.
A busy kernel without CPU, and an idle one with an open connection, bar up to the cap and prove nothing.

Who writes in the text editor has no kernel: what the server itself writes is what they save (JupyterLab does every two
minutes, where anything was changed). Extensions that write at each poll of theirs (jupyterlab-git) are its hum.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from idlewatch.durations import format_duration
from idlewatch.model import Activity, Finding

Facts: TypeAlias = Mapping[str, Any]

CPU_SHARE = 0.02
HISTORY_CHARS = 8192
SAVED_CHARS, SAVED_CHARS_PER_KERNEL = 1024, 4096
"""A saved file is written twice (jupyter_server copies it first): 1,670 characters for one of 800, 34,000 for a small
notebook. What is asked for in vain is 440 in the log, a tab that connects to its kernel again 1,180 (measured)."""
_SAVED_LOOKS = 20
"""Ten minutes of them; what is written in three of four is the server's hum."""
SUSPECT_AFTER_S = 15 * 60.0
"""A kernel that is busy without CPU for so long is a notice."""

_SIGNAL = "jupyter"


@dataclass(slots=True)
class _Kernel:
    """What is remembered of one kernel."""

    label: str
    sign_s: float
    """Newest sign of work: a proof, else the last activity when it was first seen."""
    busy: bool = False
    sign: str | None = None
    """What the newest look proves."""
    connected: bool = False
    moved: bool = False
    """Its last activity moved at the newest look, and nothing proves yet what that was."""
    ran: str | None = None
    """What its process did at the newest look, where its last activity did not move yet."""
    unsure: bool = False
    """It is busy, and there is nothing yet to compare its CPU with."""


@dataclass(slots=True)
class _Server:
    """What is remembered of one server."""

    at_s: float = float("-inf")
    kernels: dict[str, _Kernel] = field(default_factory=dict)
    written: deque[float] = field(default_factory=lambda: deque(maxlen=_SAVED_LOOKS))
    saved_s: float | None = None
    """When somebody saved a file from the browser."""


@dataclass(slots=True)
class _Verdict:
    """What one reading shows."""

    active: list[tuple[float, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    barring: list[str] = field(default_factory=list)
    quiet: list[str] = field(default_factory=list)
    notice: str | None = None


class JupyterJudge:
    """Remembers kernels from reading to reading."""

    def __init__(self, *, connected_for_s: float) -> None:
        self._cap_s = connected_for_s
        self._servers: dict[str, _Server] = {}
        self._person_s = float("-inf")
        """When somebody last ran or started something."""

    def finding(self, servers: Sequence[Facts], at_s: float, covers_s: float) -> Finding:
        """Return the verdict on all servers together. Raises KeyError or TypeError where a fact is missing."""
        self._servers = {one["name"]: self._servers.get(one["name"], _Server()) for one in servers}
        for one in servers:
            self._take(one)
        verdict = _Verdict()
        for one in servers:
            self._judge(one, at_s, verdict)
        return self._worded(verdict, at_s, covers_s)

    def _take(self, facts: Facts) -> None:
        """Learn from one server's newest look; the same look again teaches nothing."""
        server = self._servers[facts["name"]]
        if facts["error"] or facts["absent"] or facts["at_s"] <= server.at_s:
            return
        first = server.at_s == float("-inf")
        server.at_s = facts["at_s"]
        if _saved(server.written, facts.get("saved_chars"), len(facts["kernels"])):
            server.saved_s = self._person_s = facts["at_s"]
        known = server.kernels
        server.kernels = {
            one["id"]: self._learned(known.get(one["id"]), one, facts["at_s"], first=first) for one in facts["kernels"]
        }

    def _learned(self, kernel: _Kernel | None, facts: Facts, at_s: float, *, first: bool) -> _Kernel:
        new = kernel is None
        if kernel is None:
            kernel = _Kernel(label="", sign_s=at_s - facts["age_s"])
            self._person_s = max(self._person_s, kernel.sign_s)
        sign = "started" if new and not first else _sign(facts, kernel)
        if sign or (facts["moved"] and not facts["local"]):
            kernel.sign_s = at_s
            if not kernel.busy:  # what a kernel goes on doing is not a person's doing
                self._person_s = at_s
        kernel.label = _label(facts)
        kernel.busy, kernel.sign, kernel.connected = facts["state"] == "busy", sign, facts["connections"] > 0
        kernel.unsure = kernel.busy and facts["local"] and facts["cpu_s"] is None
        return kernel

    def _judge(self, facts: Facts, at_s: float, verdict: _Verdict) -> None:
        if facts["error"]:
            verdict.unknown.append(f"{facts['name']} {facts['error']}")
            return
        if facts["absent"]:
            verdict.quiet.append(f"{facts['name']} {facts['absent']}")
            return
        self._judge_saved(self._servers[facts["name"]], facts, at_s, verdict)
        kernels = self._servers[facts["name"]].kernels
        for kernel in kernels.values():
            self._judge_kernel(kernel, at_s, verdict)
        verdict.quiet.append(_summary(facts, kernels))

    def _judge_saved(self, server: _Server, facts: Facts, at_s: float, verdict: _Verdict) -> None:
        if server.saved_s is None:
            return
        if server.saved_s == server.at_s:
            verdict.active.append((server.saved_s, f"{facts['name']}: somebody saved a file"))
        elif facts.get("clients") and at_s - server.saved_s < self._cap_s:
            verdict.barring.append(
                f"{facts['name']} has an open connection, nobody saved a file for "
                f"{format_duration(at_s - server.saved_s)} < {format_duration(self._cap_s)}"
            )

    def _judge_kernel(self, kernel: _Kernel, at_s: float, verdict: _Verdict) -> None:
        if kernel.sign:
            verdict.active.append((kernel.sign_s, f"{kernel.label} {kernel.sign}"))
        elif kernel.busy:
            self._judge_suspect(kernel, at_s, verdict)
        elif kernel.connected:
            for_s = at_s - self._person_s
            if for_s < self._cap_s:
                verdict.barring.append(
                    f"{kernel.label} idle with an open connection, nobody ran anything for "
                    f"{format_duration(for_s)} < {format_duration(self._cap_s)}"
                )

    def _judge_suspect(self, kernel: _Kernel, at_s: float, verdict: _Verdict) -> None:
        if kernel.unsure:
            verdict.barring.append(f"{kernel.label} busy, its CPU is not known yet")
            return
        for_s, cap = at_s - kernel.sign_s, format_duration(self._cap_s)
        if for_s < self._cap_s:
            verdict.barring.append(f"{kernel.label} busy without CPU for {format_duration(for_s)} < {cap}")
        if for_s >= SUSPECT_AFTER_S and verdict.notice is None:
            verdict.notice = (
                f"{kernel.label} says that it is busy, but does nothing that can be seen; it keeps this Pod up for "
                f"{cap} at most"
            )

    def _worded(self, verdict: _Verdict, at_s: float, covers_s: float) -> Finding:
        activity, clauses = _strongest(verdict)
        active = activity is Activity.ACTIVE
        return Finding(
            signal=_SIGNAL,
            activity=activity,
            reason="; ".join(clauses[:3]),
            seen_from_s=0.0 if activity is Activity.UNKNOWN else at_s - covers_s,
            seen_to_s=0.0 if activity is Activity.UNKNOWN else at_s,
            evidence_s=max(instant for instant, _ in verdict.active) if active else None,
            bars=bool(verdict.barring),
            notice=verdict.notice,
        )


def _strongest(verdict: _Verdict) -> tuple[Activity, list[str]]:
    if verdict.active:
        return Activity.ACTIVE, [words for _, words in verdict.active]
    if verdict.unknown:
        return Activity.UNKNOWN, verdict.unknown
    return Activity.QUIET, verdict.barring or verdict.quiet


def _saved(written: deque[float], chars: float | None, kernels: int) -> bool:
    """Whether the server wrote a file for somebody, and not what it writes at each poll."""
    if chars is None:
        return False
    hum = sorted(written)[len(written) // 4] if written else 0.0
    written.append(chars)
    return chars >= SAVED_CHARS + kernels * SAVED_CHARS_PER_KERNEL + 2 * hum


def _sign(facts: Facts, kernel: _Kernel) -> str | None:
    """What proves that a kernel ran something since the last look; None where nothing does, which it remembers."""
    share = facts["cpu_s"] / facts["span_s"] if facts["cpu_s"] is not None else 0.0
    used = f"{share * 100:.0f} % CPU > {CPU_SHARE * 100:g} %" if share > CPU_SHARE else None
    ran = "ran a cell" if (facts["written_chars"] or 0) >= HISTORY_CHARS else used and f"ran something, {used}"
    moved = facts["moved"]
    sign = f"busy, {used}" if used and facts["state"] == "busy" else None
    if sign is None and (moved or kernel.moved):
        sign = ran or (kernel.ran if moved else None)
    kernel.moved, kernel.ran = (False, None) if sign else (moved, ran)
    return sign


def _label(facts: Facts) -> str:
    path = f" ({facts['path']})" if facts["path"] else ""
    return f"kernel {facts['kernel']}{path}"


def _summary(facts: Facts, kernels: Mapping[str, _Kernel]) -> str:
    busy = sum(kernel.busy for kernel in kernels.values())
    if not kernels:
        said = "no kernel"
    else:
        said = f"{len(kernels)} kernel{'s' if len(kernels) > 1 else ''}, "
        said += f"{busy} busy without CPU" if busy else "idle"
    if facts["terminals"]:
        said += f", {facts['terminals']} terminal{'s' if facts['terminals'] > 1 else ''}"
    return f"{facts['name']}: {said}"
