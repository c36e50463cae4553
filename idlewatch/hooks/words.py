"""What a hook is told by its environment, and what is taken out of it and of what it says: nothing secret of ours."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from idlewatch.hooks.found import Stage

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL")
_OURS_SECRET = re.compile(r"IDLEWATCH_.*(KEY|TOKEN|SECRET|PASSWORD|NOTIFY|WEBHOOK|PING)")
_SHORTEST_SECRET = 6
"""A value as short as `true` or `0` would be found everywhere."""
_REASON_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Why hooks run."""

    reason: str
    cause: str
    """`idle`, `ceiling`, `request`; `shutdown`: the container is being ended from outside; `start`."""
    volume: Path | None
    drill: bool = False


def hook_environment(
    base: Mapping[str, str],
    occasion: Occasion,
    stage: Stage,
    *,
    snapshot: str | None,
    within_s: float,
    secrets: Iterable[str] = (),
) -> dict[str, str]:
    """
    Return a hook's environment: the daemon's own without idlewatch's secrets (`secrets` names them), and why it runs.

    The Pod's own secrets stay: they are its owner's, and a hook may want to call RunPod.
    """
    hidden = {*secrets, "IDLEWATCH_DRILL"}
    kept = {name: value for name, value in base.items() if name not in hidden and not _OURS_SECRET.match(name)}
    told = {
        "IDLEWATCH_STAGE": stage.value,
        "IDLEWATCH_REASON": on_one_line(occasion.reason)[:_REASON_MAX],
        "IDLEWATCH_CAUSE": occasion.cause,
        "IDLEWATCH_SNAPSHOT": snapshot or "",
        "IDLEWATCH_VOLUME": str(occasion.volume or ""),
        "IDLEWATCH_DEADLINE_S": f"{within_s:.0f}",
    }
    return kept | told | ({"IDLEWATCH_DRILL": "1"} if occasion.drill else {})


def without_secrets(text: str, environment: Mapping[str, str]) -> str:
    """Return what a hook printed, with the values of variables that look like secrets replaced by their names."""
    values = {
        value: name
        for name, value in environment.items()
        if _SECRET.search(name.upper()) and len(value) >= _SHORTEST_SECRET
    }
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, f"({values[value]})")
    return "".join(char for char in text if char == "\n" or unicodedata.category(char) not in {"Cc", "Cf", "Cs"})


def on_one_line(text: str) -> str:
    """Return `text` without line ends and what steers a terminal: a reason may hold names that others chose."""
    spaced = "".join(" " if char.isspace() else char for char in text)
    return "".join(char for char in spaced if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})
