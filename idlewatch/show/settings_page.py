"""
The page with every setting, rendered from the one source, `Settings`: docs/settings.md.

`python -m idlewatch.show.settings_page > docs/settings.md` writes it. The figures about `auto` are worked out by the
code that decides, so that they can't be wrong.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from inspect import cleandoc

from pydantic import SecretStr

from idlewatch.deciding.patience import CLEARLY, ENOUGH_DAYS, ENOUGH_GAPS, SHORTEST_GAP_S, Gap, Stakes, patience
from idlewatch.durations import format_duration
from idlewatch.settings import Settings, shown, variable
from idlewatch.settings.files import file_variables
from idlewatch.watching.learning import stakes_of

GROUPS: dict[str, Sequence[str]] = {
    "When it stops": (
        "mode",
        "idle_after",
        "warn_for",
        "boot_grace",
        "connected_for",
        "blind_limit",
        "working_hours",
        "working_idle_after",
        "hold_max",
        "interval",
    ),
    "Ceilings": ("max_uptime", "budget_usd", "usd_per_hour"),
    "auto": ("auto_least", "auto_most", "restart_takes", "restart_unlucky", "person_usd_per_hour"),
    "What counts as use": (
        "signals",
        "ignore",
        "gpu_limit",
        "gpu_gpm",
        "jupyter_token",
        "servers",
        "command",
        "command_every",
        "command_within",
        "promql",
        "prometheus_url",
        "extra_signals",
    ),
    "Saving": (
        "volume",
        "save_to",
        "save_root",
        "on_save_failure",
        "exclude",
        "include",
        "save_every",
        "save_max_bytes",
        "keep_bytes",
        "keep_snapshots",
    ),
    "Programs around a stop": (
        "hooks",
        "hooks_on_volume",
        "hook_within",
        "checkpoint_within",
        "end_jobs",
        "end_jobs_within",
        "shutdown_within",
    ),
    "Telling people": ("notify", "heartbeat_url", "heartbeat_every"),
    "RunPod": ("provider", "runpod_api_key", "runpod_api_url", "runpod_graphql_url", "confirm_within"),
    "The daemon's own files": ("state_dir",),
}
"""Heading -> fields. One that is in none stands with the field before it in `Settings`."""

_HEAD = """\
# Every setting

<!-- Written by `python -m idlewatch.show.settings_page > docs/settings.md`; the texts stand in idlewatch/settings. -->

All settings are environment variables. A Pod hands its variables to its first process only, so each is looked for in
three places, the nearest first: the environment of the command itself, that of the container's first process
(`/proc/1/environ`), and `/etc/rp_environment`, which RunPod's start script writes. `idlewatch settings` shows what is
in force and where it came from. Under systemd they stand in `/etc/idlewatch/idlewatch.env`. The daemon reads them once,
when it starts.

Durations are written `45s`, `30m`, `2h`, `1h30m`, `2d`; `0` means off where off makes sense, and is refused where it
does not. Sizes are written `500MB`, `20GB`; lists are separated by commas. A misspelt variable is refused with the name
that was probably meant.

A secret may lie in a file of one line instead, not on a network volume, which may hang. Its name is set in
{files}.
"""
_AUTO = """\
`IDLEWATCH_IDLE_AFTER=auto` learns how long to wait from this Pod's own gaps: stretches in which nobody used it, until
somebody did again. Waiting costs the Pod's price; a stop too early costs a restart:

    restart = RESTART_TAKES * (the Pod's price + PERSON_USD_PER_HOUR) + RESTART_UNLUCKY * 1 hour * PERSON_USD_PER_HOUR
    even    = restart / the Pod's price - WARN_FOR, but never below AUTO_LEAST nor above AUTO_MOST

With `even` as the limit the stop comes where the waiting has cost as much as a restart. That never costs more than
twice what somebody who knows the future would have paid (more only where AUTO_LEAST or AUTO_MOST keep it from there):

| price of the Pod | a restart costs | `even` | at worst, times hindsight |
| --- | --- | --- | --- |
{examples}

With little history, fewer than {gaps} gaps on {days} days (pauses below {shortest} are part of the work), `even` is
the limit. With more it is what would have cost least over the gaps that began within two and a half hours of this time
of day (over all gaps, where fewer than ten did), if that is cheaper than `even` by {clearly:.0%}, and only as far as
earlier gaps have earned what it might lose. **So however you come and go, waiting and restarts together never cost more
than the bound in the table, which is what `even` alone promises, too.** What keeps a stop away beside the limit
(somebody connected, a hold, a GPU that can't be read) comes on top. For example, a Pod at $1.59 an hour that was left
{left} times on 5 days, and whose person came back within ten minutes or so, or not before the next morning,

> has a limit of {waits}: {why}

The wait is chosen once a gap, when it begins, and `idlewatch status` and `why` say it with its reason. As long as the
price is not known (RunPod's API told none and `IDLEWATCH_USD_PER_HOUR` is not set), it is {first}, and that is said.
`auto` is about idleness only: working hours have their own `IDLEWATCH_WORKING_IDLE_AFTER`, and everything else stays as
it is.
"""
_PRICES_USD = (0.44, 1.59, 2.69, 4.59, 31.92)
_DAY_S = 86400.0
_SENT = """\
## Not settings

These are set by idlewatch for the [hooks](hooks.md) that it runs, and refused by nobody: `IDLEWATCH_STAGE`,
`IDLEWATCH_REASON`, `IDLEWATCH_CAUSE`, `IDLEWATCH_SNAPSHOT`, `IDLEWATCH_DEADLINE_S`, `IDLEWATCH_DRILL`.
"""


def rendered() -> str:
    """The whole page."""
    files = ", ".join(f"`{name}`" for name in sorted(file_variables()))
    return "\n".join(
        [
            _HEAD.format(files=files),
            *(_group(title, names) for title, names in grouped(Settings.model_fields).items()),
            _SENT,
        ]
    )


def grouped(fields: Iterable[str]) -> dict[str, list[str]]:
    """Return heading -> fields, every one of `fields` once."""
    groups = {title: list(names) for title, names in GROUPS.items()}
    title_of = {name: title for title, names in GROUPS.items() for name in names}
    title = next(iter(groups))
    for name in fields:
        title = title_of.get(name, title)
        if name not in title_of:
            groups[title].append(name)
    return groups


def _group(title: str, names: Sequence[str]) -> str:
    rows = [f"| `{variable(name)}` | {_default(name)} | {_text(name)} |" for name in names]
    words = [_auto()] if title == "auto" else []
    return "\n".join([f"## {title}", "", *words, "| variable | default | means |", "| --- | --- | --- |", *rows, ""])


def _default(name: str) -> str:
    default = Settings.model_fields[name].default
    if default in (None, (), "") or isinstance(default, SecretStr):
        return ""
    return f"`{shown(default)}`"


def _text(name: str) -> str:
    words = " ".join(cleandoc(Settings.model_fields[name].description or "").split())
    return re.sub(r"\bdocs/(\w+\.md)\b", r"[docs/\1](\1)", words).replace("|", r"\|")


# ---------------------------------------------------------------- auto


def _auto() -> str:
    lasted_s = [480.0 + 30.0 * (at % 5) if at % 5 else 14 * 3600.0 for at in range(25)]
    even_s = _stakes(1.59).break_even_s
    gaps = [
        Gap(began_s=at // 5 * _DAY_S + 10 * 3600.0 + at % 5 * 1800.0, lasted_s=lasted, waited_s=even_s)
        for at, lasted in enumerate(lasted_s)
    ]
    chosen = patience(gaps, _stakes(1.59), 6 * _DAY_S + 11 * 3600.0)
    return _AUTO.format(
        gaps=ENOUGH_GAPS,
        days=ENOUGH_DAYS,
        shortest=format_duration(SHORTEST_GAP_S),
        clearly=CLEARLY,
        first=format_duration(Settings().idle_limit.total_seconds()),
        examples="\n".join(map(_example, _PRICES_USD)),
        left=len(gaps),
        waits=format_duration(chosen.wait_s),
        why=chosen.why,
    )


def _example(usd_per_hour: float) -> str:
    stakes = _stakes(usd_per_hour)
    even = format_duration(stakes.break_even_s)
    return f"| ${usd_per_hour:.2f} an hour | ${stakes.restart_usd:.2f} | {even} | {stakes.times:.1f} |"


def _stakes(usd_per_hour: float) -> Stakes:
    """With the defaults of everything else."""
    return stakes_of(Settings())(usd_per_hour)


if __name__ == "__main__":
    sys.stdout.write(rendered())
