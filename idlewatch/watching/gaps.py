"""
The gaps in this Pod's use, written down as they end: what IDLEWATCH_IDLE_AFTER=auto learns from.

One JSON line a gap, in the state folder and, merged, on the volume, so that they outlive the Pod's starts. A gap in
which idlewatch stopped the Pod ends with its next start: that is when somebody wanted it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from idlewatch.deciding.patience import SHORTEST_GAP_S, Gap
from idlewatch.deciding.tick import Tick
from idlewatch.files import write_atomically
from idlewatch.model import Activity, Json
from idlewatch.stopping.notes import was_turned_down

GAPS_FILE = "gaps.jsonl"
MOST = 500
"""Older ones say little of today."""
_SEEN_SHARE = 0.8
"""Of a gap so much must have been seen to be quiet; else somebody may have been there unseen."""
_SAME_S = 60.0
"""Gaps that began nearer to each other are one."""


class GapLedger:
    """Sees each tick, and tells of each gap once it has ended."""

    def __init__(self) -> None:
        """Nothing was used yet, so no gap has begun."""
        self._used_s: float | None = None
        self._idle_for_s = 0.0

    def tick(self, report: Tick, wall: datetime, waited_s: float) -> Gap | None:
        """The gap that this tick has ended; `waited_s`: the limit that held in it, and its warning."""
        now_s, idle_for_s = report.moment.now_s, self._idle_for_s
        self._idle_for_s = report.decision.idle_for_s
        if not any(one.activity is Activity.ACTIVE for one in report.findings):
            return None
        before_s, self._used_s = self._used_s, now_s
        lasted_s = 0.0 if before_s is None else now_s - before_s
        if lasted_s < SHORTEST_GAP_S or idle_for_s < _SEEN_SHARE * lasted_s:
            return None
        return Gap(began_s=wall.timestamp() - lasted_s, lasted_s=lasted_s, waited_s=waited_s)


def over_a_stop(note: Mapping[str, Json] | None, boot_key: str, started: datetime) -> Gap | None:
    """The gap in which idlewatch stopped the Pod before this start, by its note on the volume; None: there is none."""
    said = note or {}
    idle_for_s = said.get("idle_for_s")
    if said.get("boot_key") in (None, boot_key) or said.get("from_outside") or was_turned_down(said):
        return None
    if not isinstance(idle_for_s, int | float):
        return None
    try:
        began_s = datetime.fromisoformat(str(said.get("at"))).timestamp() - idle_for_s
    except ValueError:
        return None
    lasted_s = started.timestamp() - began_s
    return Gap(began_s=began_s, lasted_s=lasted_s, waited_s=float(idle_for_s)) if lasted_s > idle_for_s else None


def merged(*lists: Iterable[Gap]) -> list[Gap]:
    """All of them by their beginning, each once, the newest 500."""
    kept: list[Gap] = []
    for gap in sorted((gap for gaps in lists for gap in gaps), key=lambda gap: gap.began_s):
        if not kept or gap.began_s - kept[-1].began_s >= _SAME_S:
            kept.append(gap)
    return kept[-MOST:]


def read(path: Path) -> list[Gap]:
    """The gaps in a file; lines that make no sense are left out, a missing file has none. Raises OSError."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [gap for gap in map(_gap, lines) if gap]


def gap_of(said: Json) -> Gap | None:
    """A gap as it stands in JSON; None where it makes no sense."""
    try:
        known = said if isinstance(said, dict) else {}
        gap = Gap(**{name: float(str(known[name])) for name in ("began_s", "lasted_s", "waited_s")})
    except (ValueError, KeyError):
        return None
    return gap if 0 < gap.lasted_s < float("inf") and 0 <= gap.waited_s < float("inf") and gap.began_s > 0 else None


def keep(path: Path, gaps: Iterable[Gap]) -> None:
    """Replace what the file holds. Raises OSError."""
    write_atomically(path, "".join(json.dumps(asdict(gap)) + "\n" for gap in gaps), mode=0o600)


def _gap(line: str) -> Gap | None:
    try:
        return gap_of(json.loads(line))
    except ValueError:
        return None
