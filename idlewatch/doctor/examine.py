"""
The whole examination: look at everything at once, then judge.

The deadlines leave room for the slowest that can still be well (opening the driver on eight GPUs, walking over a disk
with a million files); together, since all run at once, they end within a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from idlewatch.doctor.here import Here
from idlewatch.doctor.judge_key import key_lines
from idlewatch.doctor.judge_people import started_lines, told_lines
from idlewatch.doctor.judge_pod import pod_lines
from idlewatch.doctor.judge_saved import saved_lines
from idlewatch.doctor.judge_sight import sight_lines
from idlewatch.doctor.lines import Group, Line
from idlewatch.doctor.looking import Look, Seen, StartLook, look_at
from idlewatch.model import Json

MACHINE, API, NETWORK, SIGNALS, VOLUME, LOSS = "machine", "api", "network", "signals", "volume", "loss"
CHANNELS = "channels"
WITHIN_S = {MACHINE: 30.0, API: 40.0, NETWORK: 30.0, SIGNALS: 45.0, VOLUME: 30.0, LOSS: 45.0, CHANNELS: 30.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was seen and what it means."""

    seen: Mapping[str, Seen]
    lines: tuple[Line, ...]

    def without_last_drill(self) -> list[Line]:
        """The lines but that of an earlier drill, or of none: for whoever drills now."""
        return [line for line in self.lines if (line.group, line.name) != (Group.SAVED, "drill")]

    @property
    def hung(self) -> list[str]:
        """The names of what passed its deadline."""
        return [name for name, one in self.seen.items() if one.hung]


def examine(
    here: Here,
    start: StartLook,
    *,
    within_s: Mapping[str, float] = WITHIN_S,
    told: Callable[[str], None] = lambda _: None,
) -> Examined:
    """Look at everything and judge it; `told` hears the name of each look that has ended."""
    seen = look_at(
        [Look(name=name, within_s=within_s[name], request=_request(name, here)) for name in _looks(here)], start, told
    )
    return Examined(seen=seen, lines=tuple(judged(here, seen)))


def _looks(here: Here) -> list[str]:
    """What has to be looked at: nothing is asked about what won't be stopped, and a daemon's readings are better."""
    asked = [API, NETWORK, LOSS] if here.refusal is None else []
    return [MACHINE, VOLUME, *asked, *([CHANNELS] if here.channels else []), *([] if here.running else [SIGNALS])]


def _request(name: str, here: Here) -> Json:
    lock = str(here.loaded.settings.state_dir / "daemon.lock")
    return {"root": "/", "lock": lock} if name == MACHINE else None


def judged(here: Here, seen: Mapping[str, Seen]) -> list[Line]:
    """The lines, in the order of the groups."""
    none = Seen()
    machine, api, volume = seen.get(MACHINE, none), seen.get(API, none), seen.get(VOLUME, none)
    return [
        *pod_lines(here, api),
        *key_lines(here, api, seen.get(NETWORK, none), volume),
        *sight_lines(here, seen.get(SIGNALS, none), machine),
        *saved_lines(here, volume, seen.get(LOSS, none), api),
        *told_lines(here, machine, seen.get(CHANNELS, none)),
        *started_lines(here, machine),
    ]
