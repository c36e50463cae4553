"""What beats evidence: the ceilings by uptime and by dollars, and a person's request to stop."""

from __future__ import annotations

from typing import NamedTuple

from idlewatch.deciding.moment import Moment
from idlewatch.durations import format_duration
from idlewatch.model import Cause, Limits


class Forced(NamedTuple):
    """A ceiling or a request."""

    cause: Cause
    name: str
    """The same as long as it is the same ceiling or request."""
    why: str


def standing(moment: Moment, limits: Limits) -> list[Forced]:
    """The requests and ceilings that beat evidence, with their reasons; the variable that set one stands in it."""
    found = []
    if moment.request:
        who = moment.request.who
        found.append(Forced(Cause.REQUEST, f"request {moment.request.asked_s} {who}", f"asked for by {who}"))
    if limits.max_uptime_s and moment.uptime_s >= limits.max_uptime_s - limits.warn_for_s:
        ceiling = format_duration(limits.max_uptime_s)
        why = f"uptime reaches its ceiling of {ceiling} (IDLEWATCH_MAX_UPTIME)"
        found.append(Forced(Cause.CEILING, "uptime", why))
    if limits.budget_usd and moment.spent_usd is not None:
        at_save_usd = moment.spent_usd + (moment.usd_per_hour or 0.0) * limits.warn_for_s / 3600
        if at_save_usd >= limits.budget_usd:
            used_up = f"the budget of ${limits.budget_usd:.2f} is used up (IDLEWATCH_BUDGET_USD)"
            found.append(Forced(Cause.CEILING, "budget", f"${moment.spent_usd:.2f} spent: {used_up}"))
    return found


def nearest(moment: Moment, limits: Limits) -> tuple[float | None, float, str]:
    """Seconds until the warning that a ceiling brings (None: no ceiling), its whole length, and what it is called."""
    known = []
    if limits.max_uptime_s:
        name = f"the uptime ceiling of {format_duration(limits.max_uptime_s)} is reached"
        known.append((limits.max_uptime_s - limits.warn_for_s - moment.uptime_s, limits.max_uptime_s, name))
    if limits.budget_usd and moment.spent_usd is not None and moment.usd_per_hour:
        whole_s = limits.budget_usd / moment.usd_per_hour * 3600
        left_s = (limits.budget_usd - moment.spent_usd) / moment.usd_per_hour * 3600 - limits.warn_for_s
        known.append((left_s, whole_s, f"the budget of ${limits.budget_usd:.2f} is used up"))
    return min(known, default=(None, 0.0, ""))
