"""What is true now, as the page polls it: the daemon's status, the holds by their id, and what was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from idlewatch import __version__
from idlewatch.history.status import is_stale, mapping, number
from idlewatch.history.store import spans_of, status_of
from idlewatch.model import Clock, Json, Limits
from idlewatch.requests import holds
from idlewatch.requests.save_requests import save_asked_by
from idlewatch.requests.stop_requests import request_file
from idlewatch.show.status import not_shown, status_lines
from idlewatch.show.why import LOOK_BACK_S, explained
from idlewatch.state_folder import daemon_watches, said_by_daemon
from idlewatch.watching.unwritten import fault_of
from idlewatch.web.charts import Window, oldest_s

RANGES = {"1h": 3600.0, "6h": 6 * 3600.0, "24h": 86400.0, "3d": 3 * 86400.0, "7d": 7 * 86400.0, "all": None}
"""What can be shown by one press, in seconds; None: all that is kept."""
WHY_EVERY_S = 20.0
"""Asking the policy what it would have done takes longer than all else."""
_LONGEST_S = 400 * 86400.0
_ONE_LINE = 10_000
"""Columns: each paragraph on a line of its own."""
_SHOWN = (
    "mode",
    "pod_id",
    "phase",
    "action",
    "reason",
    "cause",
    "why",
    "idle_for_s",
    "idle_after_s",
    "learned_why",
    "acts_at_s",
    "troubles",
    "started_s",
    "spent_usd",
    "usd_per_hour",
    "previous_stop",
    "save",
    "advice",
    "signals",
    "interval_s",
    "at_s",
)
"""Of `status.json`, what goes out: whatever else comes to stand there does not by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The state folder that is shown, and what must be known to understand it."""

    state_dir: Path
    clock: Clock
    limits: Limits
    hold_max_s: float


class Live:
    """Answers for the page's polls."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._lock = threading.Lock()
        self._why: tuple[float, Json] | None = None

    def status(self) -> dict[str, Json]:
        """Return what is true now: format 1. Instants are CLOCK_BOOTTIME seconds; `now` is the wall clock's `now_s`."""
        w, now_s = self._watched, self._watched.clock.now_s()
        lives = daemon_watches(w.state_dir)  # before what it says: one that ends in between has said so
        said = status_of(w.state_dir) or {}
        running = lives and bool(said) and not is_stale(said, now_s)
        return {
            "format": 1,
            "version": __version__,
            "now": w.clock.wall().timestamp(),
            "now_s": now_s,
            "running": running,
            "lives": lives,
            "not_running": None if running else _not_running(w.state_dir, said, now_s, lives=lives),
            "status": {name: said.get(name) for name in _SHOWN},
            "problems": said.get("problems") if isinstance(said.get("problems"), list) else [],
            "limits": {
                "idle_after_s": w.limits.idle_after_s,
                "warn_for_s": w.limits.warn_for_s,
                "hold_max_s": w.hold_max_s,
            },
            "holds": self._holds(now_s),
            "stop_asked": self._stop_asked(said),
            "save_asked": save_asked_by(w.state_dir, str(said.get("boot_key"))),
        }

    def _holds(self, now_s: float) -> list[Json]:
        found = holds.read_holds(self._watched.state_dir, now_s, hold_max_s=self._watched.hold_max_s)
        return [
            {"id": hold.id, "who": hold.who, "reason": hold.reason, "until_s": hold.until_s, "pid": hold.pid}
            for hold in found.active
        ]

    def _stop_asked(self, said: Mapping[str, Json]) -> Json:
        """Who asked for a stop of this start; None where nobody did."""
        try:
            asked = json.loads(request_file(self._watched.state_dir).read_text())
        except (OSError, ValueError):
            return None
        return (
            str(asked.get("who")) if isinstance(asked, dict) and asked.get("boot_key") == said.get("boot_key") else None
        )

    def why(self) -> Json:
        """Return what `idlewatch why --json` says, some seconds old at most; None where no daemon watches."""
        with self._lock:
            now_s = self._watched.clock.now_s()
            if self._why is None or not 0 <= now_s - self._why[0] < WHY_EVERY_S:
                self._why = (now_s, self._explained(now_s))
            return self._why[1]

    def _explained(self, now_s: float) -> Json:
        w = self._watched
        said = said_by_daemon(w.state_dir, now_s)
        if said is None:
            return None
        spans = spans_of(w.state_dir, since_s=now_s - LOOK_BACK_S)
        return explained(said, spans, w.limits, now_s, w.clock.wall).as_json()

    def window(self, given: Mapping[str, str]) -> Window:
        """
        Return the part of the past that was asked for: `range` up to now, or `from` and `to` in wall clock seconds.

        Raises ValueError where that is nothing.
        """
        now_s, now = self._watched.clock.now_s(), self._watched.clock.wall().timestamp()
        less_s = now - now_s
        interval_s = number(mapping(status_of(self._watched.state_dir) or {}).get("interval_s")) or 5.0
        if "from" in given or "to" in given:
            from_s, to_s = float(given["from"]) - less_s, float(given["to"]) - less_s
        else:
            to_s = now_s
            from_s = now_s - self._span_s(given.get("range", "6h"), now_s)
        if not 1.0 <= to_s - from_s <= _LONGEST_S:
            raise ValueError("a window is at least a second and at most 400 days")
        return Window(from_s=from_s, to_s=to_s, wall_less_boot_s=less_s, interval_s=interval_s)

    def _span_s(self, name: str, now_s: float) -> float:
        if name not in RANGES:
            raise ValueError(f"a range is one of {', '.join(RANGES)}")
        return RANGES[name] or max(60.0, now_s - (oldest_s(self._watched.state_dir) or now_s))


def _not_running(state_dir: Path, said: Mapping[str, Json], now_s: float, *, lives: bool) -> str:
    """Why what was shown last is not true of now, in a sentence or two; wrong settings stand beside it one by one."""
    fault = fault_of(state_dir) if lives else None
    if said:
        lines = status_lines(said, now_s, lives=lives, fault=fault, columns=_ONE_LINE)
        return lines[0] if "problems" in said else " ".join(lines)
    if lives:
        return " ".join(not_shown("nothing yet", fault, _ONE_LINE))
    return "NOT RUNNING: no daemon has watched here; start it with `idlewatch run`."
