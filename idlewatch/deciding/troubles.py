"""
What people must hear about although nothing is being stopped: blind signals, notices, ceilings that come near.

Pure. A trouble has a name and a text, stands as long as it is true, and is an alarm when it begins and whenever its
text changes; so texts change only at steps, not with every tick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from idlewatch.deciding import ceilings
from idlewatch.deciding import clock as idle_clock
from idlewatch.deciding.clock import IdleClock
from idlewatch.deciding.moment import Moment
from idlewatch.durations import format_duration
from idlewatch.model import Activity, Alarm, Finding, Limits

Troubles = Mapping[str, str]
"""Name -> text."""

BLIND_ALARM_S = 15 * 60.0
"""A signal unseen for so long raises an alarm, and again at each doubling."""
ALONE_S = 3 * 3600.0
"""So long must nothing else have been in use before people are told that one job or transfer is all there is."""
LONELY = frozenset({"jobs", "transfers", "host"})
"""Signals whose notice of use says just that of what they see; what others saw they can't know."""
_SEES_THE_SAME = "host"
"""It sees every job and every transfer, too."""
CEILING_STEPS_S = (900.0, 3600.0, 6 * 3600.0)
"""A ceiling is announced so long before the warning that it brings; a step longer than half of it is left out."""
_LONGEST_TICK_S = 60.0
"""A longer stretch between two ticks is one in which nobody looked, not one in which a signal was unknown."""
PRICE_GRACE_S = 15 * 60.0
"""A budget whose price is not known by this uptime raises an alarm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blindness:
    """What is remembered of when signals could not be read, and of when they saw use."""

    looked_s: float = 0.0
    since_s: Mapping[str, float] = field(default_factory=dict)
    """Signal -> since when it is unknown, less the time without a daemon."""
    spent_s: Mapping[str, float] = field(default_factory=dict)
    """Refining signal -> how long it was unknown, in all, since it last proved activity."""
    due_s: Mapping[str, float] = field(default_factory=dict)
    """Signal -> the blind time at which the next alarm is due."""
    used_s: Mapping[str, float] = field(default_factory=dict)
    """Signal -> when it last saw use."""
    zero_s: float = 0.0
    """The idle clock's zero."""
    nobody_looked_s: float = 0.0
    """How long, in all, no daemon ran since that zero: what was not seen then makes no signal blind."""


def after_tick(
    blind: Blindness,
    before: Troubles,
    clock: IdleClock,
    findings: Sequence[Finding],
    moment: Moment,
    limits: Limits,
) -> tuple[Blindness, Troubles]:
    """What is blind after this tick, whose clock is given, and the troubles that stand."""
    blind = _since_zero(looked(blind, findings, moment.now_s), clock.zero_s)
    now, blind = of_blindness(before, blind, findings, clock, limits)
    now = of_notices(now, findings)
    now = of_others(now, moment.troubles)
    now = of_ground(now, findings)
    now = of_price(now, limits.budget_usd, moment.spent_usd, moment.uptime_s)
    now = of_ceiling(now, *ceilings.nearest(moment, limits))
    if moment.observing:
        now = {name: text.replace("is then saved", "would then be saved") for name, text in now.items()}
    return blind, now


def looked(blind: Blindness, findings: Iterable[Finding], now_s: float) -> Blindness:
    """Return what to remember after one tick's findings."""
    findings = list(findings)
    unknown = [f for f in findings if f.activity is Activity.UNKNOWN]
    moved_on_s = min(_LONGEST_TICK_S, max(0.0, now_s - blind.looked_s)) if blind.looked_s else 0.0
    spent = {f.signal: blind.spent_s.get(f.signal, 0.0) for f in findings if f.refines}
    for one in findings:
        if one.signal in spent and one.activity is Activity.UNKNOWN:
            spent[one.signal] += moved_on_s
        elif one.signal in spent and one.activity is Activity.ACTIVE:
            spent[one.signal] = 0.0
    since = {f.signal: blind.since_s.get(f.signal, now_s) for f in unknown}
    used = {**blind.used_s, **{f.signal: now_s for f in findings if f.activity is Activity.ACTIVE}}
    return Blindness(
        looked_s=now_s,
        since_s=since,
        spent_s=spent,
        due_s=blind.due_s,
        used_s=used,
        zero_s=blind.zero_s,
        nobody_looked_s=blind.nobody_looked_s,
    )


def resumed(blind: Blindness, now_s: float) -> Blindness:
    """What a daemon that begins goes on with: in the time without one nobody looked, which makes no signal blind."""
    nobody_looked_s = max(0.0, now_s - blind.looked_s) if blind.looked_s else 0.0
    since_s = {signal: from_s + nobody_looked_s for signal, from_s in blind.since_s.items()}
    return replace(blind, since_s=since_s, nobody_looked_s=blind.nobody_looked_s + nobody_looked_s)


def _since_zero(blind: Blindness, zero_s: float) -> Blindness:
    return blind if blind.zero_s == zero_s else replace(blind, zero_s=zero_s, nobody_looked_s=0.0)


def still_waited_for(blind: Blindness, finding: Finding, connected_for_s: float) -> bool:
    """Whether an unknown signal keeps the Pod up: a ground signal always does, a refining one up to the cap."""
    return not finding.refines or blind.spent_s.get(finding.signal, 0.0) < connected_for_s


def of_blindness(
    troubles: Troubles, blind: Blindness, findings: Iterable[Finding], clock: IdleClock, limits: Limits
) -> tuple[Troubles, Blindness]:
    """Raise and clear the alarms for signals that are not seen."""
    for finding in findings:
        troubles, blind = _of_one(troubles, blind, finding, clock, limits)
    return troubles, blind


def _of_one(
    troubles: Troubles, blind: Blindness, finding: Finding, clock: IdleClock, limits: Limits
) -> tuple[Troubles, Blindness]:
    name, now_s = f"blind:{finding.signal}", blind.looked_s
    unseen_s = _unseen_s(finding, clock, now_s) - blind.nobody_looked_s
    blind_s = max(unseen_s, now_s - blind.since_s.get(finding.signal, now_s))
    due_s = blind.due_s.get(finding.signal, BLIND_ALARM_S)
    if blind_s >= due_s:
        waited_for = still_waited_for(blind, finding, limits.connected_for_s)
        meaning = "so this Pod is kept up" if waited_for else "so the other signals decide without it"
        text = f"{finding.signal} not seen for {format_duration(blind_s)}, {meaning}: {finding.reason}"
        return with_trouble(troubles, name, text), replace(blind, due_s={**blind.due_s, finding.signal: 2 * due_s})
    if blind_s < BLIND_ALARM_S and finding.activity is not Activity.UNKNOWN:
        if finding.signal not in blind.due_s:
            return without_trouble(troubles, name), blind
        due = {signal: at_s for signal, at_s in blind.due_s.items() if signal != finding.signal}
        return without_trouble(troubles, name), replace(blind, due_s=due)
    return troubles, blind


def _unseen_s(finding: Finding, clock: IdleClock, now_s: float) -> float:
    if finding.activity is Activity.ABSENT or finding.refines:
        return 0.0
    return idle_clock.unseen_s(clock, finding.signal, now_s)


def without_lonely(blind: Blindness, findings: Iterable[Finding], now_s: float) -> list[Finding]:
    """Return the findings; one thing is not told to be all there is where another signal saw use lately."""
    findings = list(findings)
    lately = {signal for signal, used_s in blind.used_s.items() if now_s - used_s < ALONE_S}
    lately |= {finding.signal for finding in findings if finding.activity is Activity.ACTIVE}
    lately -= {_SEES_THE_SAME}
    return [replace(f, notice=None) if _tells_of_use(f) and lately - {f.signal} else f for f in findings]


def _tells_of_use(finding: Finding) -> bool:
    """Not so where it only bars: then it says what the Pod is kept for, whatever else was seen."""
    return finding.signal in LONELY and (not finding.bars or finding.pauses)


def of_notices(troubles: Troubles, findings: Iterable[Finding]) -> Troubles:
    """What a signal wants people to hear; its first words stand until it has nothing more to say, or something else."""
    for finding in findings:
        name = f"notice:{finding.signal}"
        if finding.notice is None:
            troubles = without_trouble(troubles, name)
        elif name not in troubles or _meaning(finding.notice) != _meaning(troubles[name]):
            troubles = with_trouble(troubles, name, finding.notice)
    return troubles


def _meaning(notice: str) -> str:
    """What a notice says, whatever its figures: the words after its last colon (`… W for 40 min: maybe hung`)."""
    return "".join(letter for letter in notice.rpartition(": ")[2] if not letter.isdigit())


def of_ground(troubles: Troubles, findings: Iterable[Finding]) -> Troubles:
    """Without a ground signal that is there, idleness is never known and never stops the Pod: its owner must hear."""
    ground = [one for one in findings if not one.refines]
    if any(one.activity is not Activity.ABSENT for one in ground):
        return without_trouble(troubles, "no ground signal")
    text = "neither gpu nor host sees this Pod, so idleness never stops it; leave host out of IDLEWATCH_IGNORE"
    return with_trouble(troubles, "no ground signal", text)


def of_others(troubles: Troubles, told: Mapping[str, str | None]) -> Troubles:
    """What was found elsewhere; None: that one is over."""
    for name, text in told.items():
        troubles = without_trouble(troubles, name) if text is None else with_trouble(troubles, name, text)
    return troubles


def of_ceiling(troubles: Troubles, left_s: float | None, whole_s: float, what: str) -> Troubles:
    """
    Announce a ceiling `left_s` before the warning that it brings, in steps; `whole_s` is the ceiling itself.

    None: there is no ceiling, or it can't be foreseen.
    """
    steps = [step_s for step_s in CEILING_STEPS_S if step_s <= whole_s / 2]
    near = None if left_s is None or left_s <= 0 else next((s for s in steps if left_s <= s), None)
    if near is None:
        return without_trouble(troubles, "ceiling near")
    text = f"{what} in less than {format_duration(near)}: this Pod is then saved and stopped, in use or not"
    return with_trouble(troubles, "ceiling near", text)


def of_price(troubles: Troubles, budget_usd: float, spent_usd: float | None, uptime_s: float) -> Troubles:
    """A budget can't be kept without a price."""
    if not budget_usd or spent_usd is not None:
        return without_trouble(troubles, "price unknown")
    if uptime_s < PRICE_GRACE_S:
        return troubles
    text = f"the budget of ${budget_usd:.2f} can't be kept: RunPod did not tell the price; set IDLEWATCH_USD_PER_HOUR"
    return with_trouble(troubles, "price unknown", text)


def with_trouble(troubles: Troubles, name: str, text: str) -> Troubles:
    """It is true now."""
    return {**troubles, name: text}


def without_trouble(troubles: Troubles, name: str) -> Troubles:
    """It is no longer true."""
    return {key: text for key, text in troubles.items() if key != name} if name in troubles else troubles


def news(before: Troubles, after: Troubles) -> tuple[Alarm, ...]:
    """What began, or says something new."""
    return tuple(Alarm(name=name, text=text) for name, text in after.items() if before.get(name) != text)
