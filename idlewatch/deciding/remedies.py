"""What a person can do so that a Pod that is being stopped stays up: another thing for each cause. Pure."""

from __future__ import annotations

from idlewatch.model import Cause

_CEILINGS = ("IDLEWATCH_MAX_UPTIME", "IDLEWATCH_BUDGET_USD")


def to_keep_up(cause: Cause | str | None, why: str = "") -> str:
    """
    Return what keeps this Pod up, as a clause without a full stop: `keep it up: idlewatch hold 2h`.

    `cause` is that of the end sequence, also as `status.json` writes it; none is taken for idleness. `why` is the
    reason that the policy gave: the variable that set a ceiling stands in it.
    """
    if cause == Cause.REQUEST:
        return "take it back: idlewatch stop --cancel"
    if cause == Cause.CEILING:
        variable = next((name for name in _CEILINGS if name in why), " or ".join(_CEILINGS))
        return f"a hold does not help here: raise or unset {variable} and restart the daemon"
    return "keep it up: idlewatch hold 2h"
