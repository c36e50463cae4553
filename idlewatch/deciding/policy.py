"""
The decision: pure, so that it can be read in one sitting, tested without a machine, and replayed.

`decide` takes what is remembered, this tick's findings and this moment, and returns what to remember and one
decision with its reason. `after_outcome` takes what carrying it out gave. No I/O, no clock, no log.

                      quiet for idle_after, nothing bars
        ┌──────────┐ ───────────── WARN ─────────────► ┌────────┐
        │ WATCHING │                                   │ WARNED │ the countdown runs on the idle clock
        └──────────┘ ◄──────────── CANCEL ──────────── └────────┘
          ▲  ▲  ▲ ▲                                        │ warn_for later: SAVE
          │  │  │ └─────────────── CANCEL ──────────── ┌────────┐
          │  │  └── failed save: alarm, back off ───── │ SAVING │
          │  │                                         └────────┘
          │  │                                             │ saved, or nothing to save
          │  └──────────────────── CANCEL ─────────── ┌───────────┐ ◄─ failed for now: back off ─┐
          │                                           │ LAST LOOK │ a fresh reading of all       │
          │                                           └───────────┘                              │
          │                                                │ all quiet for the last minute: STOP │
          │                                           ┌──────────┐                               │
          └── refused for good: alarm once ────────── │ STOPPING │ ─ alive past the limit: ──────┘
                                                      └──────────┘   STOP NOT CONFIRMED

CANCEL comes from evidence, a hold, a bar, forgotten quiet time or a warning grown old; a busy moment that is no use
yet (`Finding.pauses`) is waited for instead, and saved once more. A ceiling and a person's request (`Cause.CEILING`,
`Cause.REQUEST`) walk the same path; evidence and holds do not cancel them. One that arises in a sequence of another
cause, or takes the place of an earlier request, warns anew from WARNED or LAST LOOK. Within SAVING, programs may be
asked for a checkpoint: what they do for it pauses, and neither cancels nor clears (`asked_work`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from idlewatch.deciding import ceilings
from idlewatch.deciding import clock as idle_clock
from idlewatch.deciding import troubles as trouble
from idlewatch.deciding.asked_work import ASKED_TAIL_S, without_asked
from idlewatch.deciding.ceilings import Forced
from idlewatch.deciding.clock import IdleClock
from idlewatch.deciding.moment import Moment, idle_after_s
from idlewatch.deciding.remembered import State, backed_off, watching, with_trouble, without_trouble
from idlewatch.deciding.troubles import Blindness
from idlewatch.durations import format_duration
from idlewatch.model import Action, Activity, Alarm, Cause, Decision, Finding, Limits, Outcome, Phase

LEAST_COVERAGE = 0.8
"""Share of the time since the clock's zero that each present signal must have seen."""
WARNING_VALID_S = 15 * 60.0
"""How long past its deadline a warning still covers a stop."""
LAST_LOOK_S = 60.0
"""Every signal must have been seen quiet for this long, up to a reading newer than the save."""
FORCED_SAVE_VALID_S = 15 * 60.0
"""Where evidence does not cancel: a save that ended longer ago than this at the stop is made again."""
_SAVES_MOST = 3
"""So often a warning's save is made again because of busy moments: what comes back that often is no use."""
_SPREAD_SHARE = 0.25
"""By this share of itself a back-off from the provider is longer for some Pods than for others."""
_TRANSIENT_BACK_OFF_S = (30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 1800.0, 3600.0)
_SAVE_BACK_OFF_S = (600.0, 1200.0, 2400.0, 7200.0)
_REFUSED_BACK_OFF_S = (6 * 3600.0, 12 * 3600.0, 24 * 3600.0)

NOT_CONFIRMED = "STOP NOT CONFIRMED"
STOP_REFUSED = "stop refused"
SAVE_FAILED = "save failed"
CANNOT_STOP = "cannot stop"
STOP_FAILED = "stop failed"
_FAILURES = (SAVE_FAILED, STOP_FAILED, STOP_REFUSED, NOT_CONFIRMED)
"""Troubles after which it is tried again."""


def resumed(state: State, now_s: float) -> State:
    """
    What is remembered when the daemon starts again in the same container.

    The idle clock stands (the time without ticks was not seen). The end sequence does not: no warning, save or
    stop call is carried over, so it begins anew, warning first.
    """
    calm = watching(state, now_s)
    if state.phase is Phase.STOPPING:
        return with_trouble(
            calm, NOT_CONFIRMED, "the daemon ended while a stop was under way, and this machine lives on"
        )
    return calm


def decide(state: State, findings: Sequence[Finding], moment: Moment, limits: Limits) -> tuple[State, Decision]:
    """Return what to remember and the one thing to do now. At most one action a tick; `Decision.reason` says why."""
    before = state
    findings, asked_s = without_asked(findings, moment)
    clock = idle_clock.advanced(
        state.clock, findings, moment.now_s, limits.blind_limit_s, _aside(state, findings, limits)
    )
    standing = [one for one in ceilings.standing(moment, limits) if one.name != state.refused]
    blind, troubles = _troubled(state, clock, findings, moment, limits)
    state = replace(
        state,
        clock=clock,
        asked_s=max(state.asked_s, asked_s),
        blind=blind,
        troubles=troubles,
        observed=tuple(one.name for one in standing if one.name in state.observed),
    )
    if any(finding.pauses for finding in findings):
        state = replace(state, busy_s=moment.now_s)
    if state.barred_s is not None and any(finding.bars and not finding.pauses for finding in findings):
        state = replace(state, barred_s=moment.now_s)
    if state.clock.zero_s > before.clock.zero_s and _active(findings):
        state = replace(state, failures=0, observed_zero_s=None)
    state, decision = _STEPS[state.phase](state, _Tick(findings, moment, limits, standing, state.observed))
    alarms = trouble.news(before.troubles, state.troubles)
    idle_s = idle_clock.idle_for_s(state.clock)
    return state, replace(decision, alarms=alarms, idle_for_s=idle_s, cause=decision.cause or state.cause)


def _aside(state: State, findings: Sequence[Finding], limits: Limits) -> frozenset[str]:
    """The refining signals that were unknown for so long that the others decide without them."""
    waits_s = limits.connected_for_s
    return frozenset(f.signal for f in findings if not trouble.still_waited_for(state.blind, f, waits_s))


def after_outcome(state: State, outcome: Outcome, now_s: float, limits: Limits) -> tuple[State, tuple[Alarm, ...]]:
    """Return what to remember after `outcome`, and the alarms that it raises."""
    before = state
    match outcome.action:
        case Action.SAVE if state.phase is Phase.SAVING:
            state = _after_save(state, outcome, now_s, limits)
        case Action.STOP if state.phase is Phase.STOPPING:
            state = _after_stop(state, outcome, now_s, limits)
    return state, trouble.news(before.troubles, state.troubles)


def save_begins_s(state: State, now_s: float) -> float:
    """When the save begins if everything stays as it is: the later of the promised wait and the quiet countdown."""
    by_wall_s = state.warned_s + state.warn_for_s
    if state.cause is not Cause.IDLE:
        return by_wall_s
    quiet_left_s = state.idle_at_warning_s + state.warn_for_s - idle_clock.idle_for_s(state.clock)
    return max(by_wall_s, now_s + quiet_left_s)


# ---------------------------------------------------------------- one step a phase


@dataclass(frozen=True, slots=True)
class _Tick:
    findings: Sequence[Finding]
    moment: Moment
    limits: Limits
    standing: Sequence[Forced]
    """The ceilings and requests of now."""
    observed: Sequence[str]

    @property
    def forced(self) -> Forced | None:
        """What beats evidence now: the first that `observe` has not told of yet, else the first."""
        new = [one for one in self.standing if one.name not in self.observed]
        return next(iter([*new, *self.standing]), None)

    @property
    def idle_after_s(self) -> float:
        return idle_after_s(self.moment, self.limits)

    def stands(self, name: str) -> bool:
        """Whether the ceiling or request of this name is one of now's."""
        return any(one.name == name for one in self.standing)

    def words(self, does: str, would: str) -> str:
        """What is said of what is done, or would be."""
        return would if self.moment.observing else does


def _watch(state: State, tick: _Tick) -> tuple[State, Decision]:
    obstacle = _obstacle(state, tick)
    if tick.moment.refusal:
        state = with_trouble(state, CANNOT_STOP, tick.moment.refusal)
        if tick.forced or obstacle is None:
            return state, _wait(f"would stop it now, but can't: {tick.moment.refusal}")
    else:
        state = without_trouble(state, CANNOT_STOP)
    if obstacle is not None:
        return state, _wait(obstacle)
    return _warn(state, tick, tick.forced or Forced(Cause.IDLE, "", f"nothing used this Pod for {_idle(state)}"))


def _warn(state: State, tick: _Tick, for_: Forced) -> tuple[State, Decision]:
    """The warning with which every end sequence begins; whatever an earlier one had is dropped."""
    now_s, request = tick.moment.now_s, tick.moment.request
    warn_for_s = request.warn_for_s if request and for_.cause is Cause.REQUEST else tick.limits.warn_for_s
    state = replace(
        watching(state, now_s),
        phase=Phase.WARNED,
        cause=for_.cause,
        why=for_.why,
        forced=for_.name,
        warned_s=now_s,
        warn_for_s=warn_for_s,
        idle_at_warning_s=idle_clock.idle_for_s(state.clock),
        void_s=now_s + warn_for_s + WARNING_VALID_S,
    )
    begins_s = save_begins_s(state, now_s)
    return state, Decision(action=Action.WARN, reason=for_.why, cause=for_.cause, acts_at_s=begins_s)


def _obstacle(state: State, tick: _Tick) -> str | None:
    """The strongest reason not to warn now; None where there is none."""
    limits = tick.limits
    if tick.forced:
        if tick.forced.name in state.observed:
            return _observed(tick.forced.why)
        later = _retry_obstacle(state, tick)
        return later and f"{tick.forced.why}, which stands; {later}"
    use = _in_use(tick) or _unseen(state, tick)
    if use:
        return use
    idle_s = idle_clock.idle_for_s(state.clock)
    early = _too_early(tick, idle_s)
    if early:
        return early
    if tick.moment.uptime_s < limits.boot_grace_s:
        grace = f"the first {format_duration(limits.boot_grace_s)} of uptime (IDLEWATCH_BOOT_GRACE)"
        return f"up for {format_duration(tick.moment.uptime_s)}; idle or not, nothing happens in {grace}"
    if state.observed_zero_s == state.clock.zero_s:
        return _observed(f"nothing used this Pod for {_idle(state)}")
    return _just_barred(state, tick) or _retry_obstacle(state, tick)


def _just_barred(state: State, tick: _Tick) -> str | None:
    """Why not to warn again yet: what called the last warning off by its presence comes and goes."""
    if state.barred_s is None:
        return None
    left_s = state.barred_s + tick.limits.warn_for_s - tick.moment.now_s
    return (
        f"a warning was called off; the next one in {format_duration(left_s)}, if nothing bars it"
        if left_s > 0
        else None
    )


def _too_early(tick: _Tick, idle_s: float) -> str | None:
    """Why the quiet time does not suffice yet; None where it does."""
    hours = " in working hours" if tick.moment.working else ""
    if not tick.idle_after_s:
        variable = "IDLEWATCH_WORKING_IDLE_AFTER" if tick.moment.working else "IDLEWATCH_IDLE_AFTER"
        return f"idleness never stops this Pod{hours} ({variable}=0)"
    if idle_s < tick.idle_after_s:
        return f"quiet for {format_duration(idle_s)} of {format_duration(tick.idle_after_s)}{hours}"
    return None


def _retry_obstacle(state: State, tick: _Tick) -> str | None:
    """Why it is not tried again yet; a person who asks after it failed is not made to wait for the back-off."""
    now_s, request = tick.moment.now_s, tick.moment.request
    if now_s >= state.retry_s or (request and request.asked_s > state.failed_s):
        return None
    failed = [f"{name}: {state.troubles[name]}" for name in _FAILURES if name in state.troubles]
    return "; ".join([*(failed or ["it failed"]), f"tried again in {format_duration(state.retry_s - now_s)}"])


def _observed(why: str) -> str:
    return f"would have stopped it ({why}); only observing"


def _unseen(state: State, tick: _Tick) -> str | None:
    """Why the quiet time does not count, where it does not."""
    present = [f for f in tick.findings if f.activity is not Activity.ABSENT]
    ground = [f for f in present if not f.refines]
    if not ground:
        return "neither gpu nor host sees this Pod: unknown is never idle"
    waits_for = tick.limits.connected_for_s
    unknown = [
        f for f in present if f.activity is Activity.UNKNOWN and trouble.still_waited_for(state.blind, f, waits_for)
    ]
    if unknown:
        return _unknowns(unknown)
    if idle_clock.idle_for_s(state.clock) < tick.idle_after_s:
        return None
    for finding in ground:
        share = idle_clock.coverage(state.clock, finding.signal, tick.moment.now_s)
        if share < LEAST_COVERAGE:
            seen = math.floor(share * 100)  # 79.9 is not enough, and 80 % would not say so
            return f"{finding.signal} saw only {seen}% of the quiet time; a stop needs {LEAST_COVERAGE:.0%}"
    return None


def _unknowns(unknown: Sequence[Finding]) -> str:
    """What can't be seen and why; signals with the same reason are named together."""
    names: dict[str, list[str]] = {}
    for finding in unknown:
        names.setdefault(finding.reason, []).append(finding.signal)
    return "; ".join(f"{', '.join(signals)} unknown: {reason}" for reason, signals in names.items())


def _warned(state: State, tick: _Tick) -> tuple[State, Decision]:
    now_s = tick.moment.now_s
    anew = _arisen(state, tick)
    if anew:
        return _warn(state, tick, anew)
    off = _called_off(state, tick)
    if off:
        return _cancelled(state, tick, off)
    begins_s = save_begins_s(state, now_s)
    unseen = _unseen(state, tick) if state.cause is Cause.IDLE else None
    if now_s < begins_s or unseen:
        saves = f"{tick.words('saves', 'would save')} in {format_duration(max(0.0, begins_s - now_s))}"
        return state, replace(_wait(f"{saves}, but waits: {unseen}" if unseen else saves), acts_at_s=begins_s)
    return _save(state, now_s, state.why)


def _save(state: State, now_s: float, reason: str) -> tuple[State, Decision]:
    state = replace(state, phase=Phase.SAVING, save_began_s=now_s, saves=state.saves + 1, saved=False, snapshot=None)
    return state, Decision(action=Action.SAVE, reason=reason, cause=state.cause)


def _saving(state: State, tick: _Tick) -> tuple[State, Decision]:
    off = None if _arisen(state, tick) else _called_off(state, tick)
    if off:
        return _cancelled(state, tick, off)
    return state, _wait(tick.words("saving what a stop would wipe", "would now save what a stop would wipe"))


def _last_look(state: State, tick: _Tick) -> tuple[State, Decision]:
    now_s = tick.moment.now_s
    anew = _arisen(state, tick)
    if anew:
        return _warn(state, tick, anew)
    off = _called_off(state, tick)
    if off:
        return _cancelled(state, tick, off)
    later = _retry_obstacle(state, tick)
    if later:
        return state, _wait(later)
    if _save_is_old(state, now_s):
        return _save(state, now_s, f"the save is too old to stop on; {state.why}")
    unsure = None if state.cause is not Cause.IDLE else _unsure(state, tick)
    if unsure:
        return state, _wait(f"last look: {unsure}")
    state = replace(state, phase=Phase.STOPPING, accepted_s=None)
    return state, Decision(action=Action.STOP, reason=state.why, cause=state.cause)


def _save_is_old(state: State, now_s: float) -> bool:
    """Whether the save does not hold what is there now: evidence came after it, or it is a forced stop's old one."""
    if not state.saved:
        return False
    if state.cause is Cause.IDLE:
        busy_s = state.busy_s if state.saves < _SAVES_MOST else 0.0
        return state.save_began_s < max(state.clock.zero_s, state.asked_s, busy_s)
    return now_s - state.saved_s > FORCED_SAVE_VALID_S


def _unsure(state: State, tick: _Tick) -> str | None:
    """What the last look still has to see."""
    unseen = _unseen(state, tick)
    if unseen:
        return unseen
    least_s = min(LAST_LOOK_S, tick.idle_after_s)
    asked = tick.moment.asked  # what hid behind the work of asked programs must have had its chance to show
    look_from_s = state.look_from_s if asked is None else max(state.look_from_s, asked[1] + ASKED_TAIL_S)
    for finding in tick.findings:
        if finding.activity in (Activity.ABSENT, Activity.UNKNOWN):  # an unknown one that is waited for: see _unseen
            continue
        if finding.seen_to_s <= look_from_s:
            return f"waiting for a fresh reading of {finding.signal}"
        if finding.pauses:
            return f"{finding.signal} is busy at this moment"
        if finding.refines:
            continue
        if idle_clock.seen_through_s(state.clock, finding.signal) < least_s:
            return f"{finding.signal} not seen quiet for the last {format_duration(least_s)}"
    return None


def _stopping(state: State, tick: _Tick) -> tuple[State, Decision]:
    now_s = tick.moment.now_s
    if state.accepted_s is None:
        asking = tick.words("asking the provider to stop this Pod", "would now ask the provider to stop this Pod")
        return state, _wait(asking)
    alive_s = now_s - state.accepted_s
    if alive_s <= tick.limits.confirm_within_s:
        return state, _wait(f"stop accepted {format_duration(alive_s)} ago; waiting for this machine to end")
    limit = format_duration(tick.limits.confirm_within_s)
    text = f"the provider accepted the stop, but this machine lives on more than {limit} later"
    state = with_trouble(state, NOT_CONFIRMED, text)
    return _look_again(state, now_s, None, tick.limits), _wait(state.troubles[NOT_CONFIRMED])


_STEPS: Mapping[Phase, Callable[[State, _Tick], tuple[State, Decision]]] = {
    Phase.WATCHING: _watch,
    Phase.WARNED: _warned,
    Phase.SAVING: _saving,
    Phase.LAST_LOOK: _last_look,
    Phase.STOPPING: _stopping,
}


# ---------------------------------------------------------------- what calls it off


def _in_use(tick: _Tick, *, warned: bool = False) -> str | None:
    """
    What keeps this Pod from being stopped for idleness, the strongest first.

    Once people are `warned`, what only pauses calls nothing off: work turns ACTIVE within a minute, and what comes
    for seconds again and again would bring a warning each time and keep the Pod for ever.
    """
    if tick.moment.holds:
        hold = tick.moment.holds[0]
        return f"held by {hold.who}: {hold.reason or 'no reason given'}"
    barring = [f for f in tick.findings if f.bars and not (warned and f.pauses)]
    active = _active(tick.findings)
    strongest = active or barring
    return "; ".join(f"{f.signal}: {f.reason}" for f in strongest) or None


def _called_off(state: State, tick: _Tick) -> str | None:
    """Why the end sequence must not go on; None where it may."""
    now_s = tick.moment.now_s
    if tick.moment.refusal:
        return f"can't stop: {tick.moment.refusal}"
    if tick.stands(state.forced):
        return None
    if state.cause is not Cause.IDLE:
        taken_back = state.cause is Cause.REQUEST
        return "the request to stop was taken back" if taken_back else f"no longer so: {state.why}"
    use = _in_use(tick, warned=True)
    if use:
        return use
    early = _too_early(tick, max(state.idle_at_warning_s, idle_clock.idle_for_s(state.clock)))
    if early:
        return early
    if state.clock.zero_s > state.warned_s:
        return _unseen(state, tick) or "the quiet time was not seen well enough and is forgotten"
    if state.phase is not Phase.SAVING and now_s > state.void_s:
        late = f"not stopped within {format_duration(WARNING_VALID_S)} after the time that the warning named"
        return f"{late}; a new warning is due"
    return None


def _arisen(state: State, tick: _Tick) -> Forced | None:
    """A ceiling or request for which people have not been warned: it comes in place of what they were warned of."""
    forced = tick.forced
    if forced is None or forced.name in tick.observed or tick.stands(state.forced):
        return None
    return forced


def _cancelled(state: State, tick: _Tick, why: str) -> tuple[State, Decision]:
    now_s = tick.moment.now_s
    is_barred = state.cause is Cause.IDLE and any(finding.bars for finding in tick.findings)
    calm = replace(watching(state, now_s), barred_s=now_s if is_barred else None)
    return calm, Decision(action=Action.CANCEL, reason=why, cause=state.cause)


# ---------------------------------------------------------------- what outcomes do


def _after_save(state: State, outcome: Outcome, now_s: float, limits: Limits) -> State:
    if outcome.ok:
        began_s = state.save_began_s if outcome.save_began_s is None else outcome.save_began_s
        state = without_trouble(state, SAVE_FAILED)
        return _looking(
            replace(state, saved=True, snapshot=outcome.snapshot, save_began_s=began_s, saved_s=now_s), now_s
        )
    state = with_trouble(state, SAVE_FAILED, outcome.reason)
    if limits.stop_without_save:
        return _looking(replace(state, saved=False), now_s)
    return backed_off(watching(state, now_s), now_s, _SAVE_BACK_OFF_S, None)


def _after_stop(state: State, outcome: Outcome, now_s: float, limits: Limits) -> State:
    if outcome.observed and state.forced:
        return replace(watching(state, now_s), observed=(*state.observed, state.forced))
    if outcome.observed:
        return replace(watching(state, now_s), observed_zero_s=state.clock.zero_s)
    if outcome.ok:
        calm = without_trouble(without_trouble(state, STOP_REFUSED), STOP_FAILED)
        return replace(calm, accepted_s=now_s)
    if outcome.permanent:
        answered = (
            state.forced if state.cause is Cause.REQUEST else ""
        )  # whoever asked may ask again, once it is mended
        state = replace(with_trouble(state, STOP_REFUSED, outcome.reason), refused=answered)
        return backed_off(watching(state, now_s), now_s, _spread(_REFUSED_BACK_OFF_S, limits), None)
    state = with_trouble(state, STOP_FAILED, outcome.reason)
    return _look_again(state, now_s, outcome.retry_after_s, limits)


def _look_again(state: State, now_s: float, retry_after_s: float | None, limits: Limits) -> State:
    """Back to the last look, which must see everything quiet anew before the next call."""
    state = replace(state, phase=Phase.LAST_LOOK, look_from_s=now_s)
    return backed_off(state, now_s, _spread(_TRANSIENT_BACK_OFF_S, limits), retry_after_s)


def _spread(back_off_s: Sequence[float], limits: Limits) -> list[float]:
    """An account's Pods share its rate limit: those that failed together must not ask together again."""
    return [wait_s * (1.0 + _SPREAD_SHARE * limits.spread) for wait_s in back_off_s]


def _looking(state: State, now_s: float) -> State:
    return replace(state, phase=Phase.LAST_LOOK, look_from_s=now_s, void_s=max(state.void_s, now_s + WARNING_VALID_S))


# ---------------------------------------------------------------- troubles


def _troubled(
    state: State, clock: IdleClock, findings: Sequence[Finding], moment: Moment, limits: Limits
) -> tuple[Blindness, Mapping[str, str]]:
    """What is blind after this tick, whose clock is given, and the troubles that stand."""
    blind = trouble.looked(state.blind, findings, moment.now_s)
    now, blind = trouble.of_blindness(state.troubles, blind, findings, clock, limits)
    now = trouble.of_notices(now, findings)
    now = trouble.of_others(now, moment.troubles)
    now = trouble.of_ground(now, findings)
    now = trouble.of_price(now, limits.budget_usd, moment.spent_usd, moment.uptime_s)
    now = trouble.of_ceiling(now, *ceilings.nearest(moment, limits))
    if moment.observing:
        now = {name: text.replace("is then saved", "would then be saved") for name, text in now.items()}
    return blind, now


def _active(findings: Sequence[Finding]) -> list[Finding]:
    return [f for f in findings if f.activity is Activity.ACTIVE]


def _idle(state: State) -> str:
    return format_duration(idle_clock.idle_for_s(state.clock))


def _wait(reason: str) -> Decision:
    return Decision(action=Action.WAIT, reason=reason)
