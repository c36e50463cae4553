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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from idlewatch.deciding import ceilings
from idlewatch.deciding import clock as idle_clock
from idlewatch.deciding import troubles as trouble
from idlewatch.deciding.asked_work import without_asked
from idlewatch.deciding.ceilings import Forced
from idlewatch.deciding.given import Given
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.remembered import (
    WARNING_VALID_S,
    State,
    backed_off,
    looking,
    looking_again,
    saving,
    stopping,
    warned,
    watching,
    with_trouble,
    without_trouble,
)
from idlewatch.deciding.sight import unseen, unsure
from idlewatch.durations import format_duration
from idlewatch.model import Action, Activity, Alarm, Cause, Decision, Finding, Limits, Outcome, Phase

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
    calm = replace(watching(state, now_s), blind=trouble.resumed(state.blind, now_s))
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
    blind, troubles = trouble.after_tick(state.blind, state.troubles, clock, findings, moment, limits)
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
    if state.barred_s is not None and _is_barred(findings):
        state = replace(state, barred_s=moment.now_s)
    if state.clock.zero_s > before.clock.zero_s and _active(findings):
        state = replace(state, failures=0, observed_zero_s=None)
    state, decision = _stepped(state, Given(findings, moment, limits, standing, state.observed))
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


def _stepped(state: State, given: Given) -> tuple[State, Decision]:
    """
    The step of this phase. Before the stop is asked for, what arises comes in its place, and much calls it off.

    What arises within SAVING waits for the save, which it needs, too.
    """
    if state.phase in _NOT_ASKED_YET:
        anew = _arisen(state, given)
        if anew and state.phase is not Phase.SAVING:
            return _warn(state, given, anew)
        off = None if anew else _called_off(state, given)
        if off:
            return _cancelled(state, given, off)
    return _STEPS[state.phase](state, given)


def _watch(state: State, given: Given) -> tuple[State, Decision]:
    obstacle = _obstacle(state, given)
    if given.moment.refusal:
        state = with_trouble(state, CANNOT_STOP, given.moment.refusal)
        if given.forced or obstacle is None:
            return state, _wait(f"would stop it now, but can't: {given.moment.refusal}")
    else:
        state = without_trouble(state, CANNOT_STOP)
    if obstacle is not None:
        return state, _wait(obstacle)
    return _warn(state, given, given.forced or Forced(Cause.IDLE, "", f"nothing used this Pod for {_idle(state)}"))


def _warn(state: State, given: Given, for_: Forced) -> tuple[State, Decision]:
    """The warning with which every end sequence begins; whatever an earlier one had is dropped."""
    now_s, request = given.moment.now_s, given.moment.request
    warn_for_s = request.warn_for_s if request and for_.cause is Cause.REQUEST else given.limits.warn_for_s
    state = warned(state, for_, now_s, warn_for_s)
    begins_s = save_begins_s(state, now_s)
    return state, Decision(action=Action.WARN, reason=for_.why, cause=for_.cause, acts_at_s=begins_s)


def _obstacle(state: State, given: Given) -> str | None:
    """The strongest reason not to warn now; None where there is none."""
    limits = given.limits
    if given.forced:
        if given.forced.name in state.observed:
            return _observed(given.forced.why)
        later = _retry_obstacle(state, given)
        return later and f"{given.forced.why}, which stands; {later}"
    use = _in_use(given) or unseen(state, given)
    if use:
        return use
    idle_s = idle_clock.idle_for_s(state.clock)
    early = _too_early(given, idle_s)
    if early:
        return early
    if given.moment.uptime_s < limits.boot_grace_s:
        grace = f"the first {format_duration(limits.boot_grace_s)} of uptime (IDLEWATCH_BOOT_GRACE)"
        return f"up for {format_duration(given.moment.uptime_s)}; idle or not, nothing happens in {grace}"
    if state.observed_zero_s == state.clock.zero_s:
        return _observed(f"nothing used this Pod for {_idle(state)}")
    return _just_barred(state, given) or _retry_obstacle(state, given)


def _just_barred(state: State, given: Given) -> str | None:
    """Why not to warn again yet: what called the last warning off by its presence comes and goes."""
    if state.barred_s is None:
        return None
    left_s = state.barred_s + given.limits.warn_for_s - given.moment.now_s
    if left_s <= 0:
        return None
    return f"a warning was called off; the next one in {format_duration(left_s)}, if nothing bars it"


def _too_early(given: Given, idle_s: float) -> str | None:
    """Why the quiet time does not suffice yet; None where it does."""
    hours = " in working hours" if given.moment.working else ""
    if not given.idle_after_s:
        variable = "IDLEWATCH_WORKING_IDLE_AFTER" if given.moment.working else "IDLEWATCH_IDLE_AFTER"
        return f"idleness never stops this Pod{hours} ({variable}=0)"
    if idle_s < given.idle_after_s:
        return f"quiet for {format_duration(idle_s)} of {format_duration(given.idle_after_s)}{hours}"
    return None


def _retry_obstacle(state: State, given: Given) -> str | None:
    """Why it is not tried again yet; a person who asks after it failed is not made to wait for the back-off."""
    now_s, request = given.moment.now_s, given.moment.request
    if now_s >= state.retry_s or (request and request.asked_s > state.failed_s):
        return None
    failed = [f"{name}: {state.troubles[name]}" for name in _FAILURES if name in state.troubles]
    return "; ".join([*(failed or ["it failed"]), f"tried again in {format_duration(state.retry_s - now_s)}"])


def _observed(why: str) -> str:
    return f"would have stopped it ({why}); only observing"


def _count_down(state: State, given: Given) -> tuple[State, Decision]:
    now_s = given.moment.now_s
    begins_s = save_begins_s(state, now_s)
    missing = unseen(state, given) if state.cause is Cause.IDLE else None
    if now_s < begins_s or missing:
        saves = f"{given.words('saves', 'would save')} in {format_duration(max(0.0, begins_s - now_s))}"
        return state, replace(_wait(f"{saves}, but waits: {missing}" if missing else saves), acts_at_s=begins_s)
    return saving(state, now_s), Decision(action=Action.SAVE, reason=state.why, cause=state.cause)


def _await_save(state: State, given: Given) -> tuple[State, Decision]:
    return state, _wait(given.words("saving what a stop would wipe", "would now save what a stop would wipe"))


def _look_last(state: State, given: Given) -> tuple[State, Decision]:
    now_s = given.moment.now_s
    later = _retry_obstacle(state, given)
    if later:
        return state, _wait(later)
    if _save_is_old(state, now_s):
        reason = f"the save is too old to stop on; {state.why}"
        return saving(state, now_s), Decision(action=Action.SAVE, reason=reason, cause=state.cause)
    missing = unsure(state, given) if state.cause is Cause.IDLE else None
    if missing:
        return state, _wait(f"last look: {missing}")
    return stopping(state), Decision(action=Action.STOP, reason=state.why, cause=state.cause)


def _save_is_old(state: State, now_s: float) -> bool:
    """Whether the save does not hold what is there now: evidence came after it, or it is a forced stop's old one."""
    if not state.saved:
        return False
    if state.cause is Cause.IDLE:
        busy_s = state.busy_s if state.saves < _SAVES_MOST else 0.0
        return state.save_began_s < max(state.clock.zero_s, state.asked_s, busy_s)
    return now_s - state.saved_s > FORCED_SAVE_VALID_S


def _await_end(state: State, given: Given) -> tuple[State, Decision]:
    now_s = given.moment.now_s
    if state.accepted_s is None:
        asking = given.words("asking the provider to stop this Pod", "would now ask the provider to stop this Pod")
        return state, _wait(asking)
    alive_s = now_s - state.accepted_s
    if alive_s <= given.limits.confirm_within_s:
        return state, _wait(f"stop accepted {format_duration(alive_s)} ago; waiting for this machine to end")
    limit = format_duration(given.limits.confirm_within_s)
    text = f"the provider accepted the stop, but this machine lives on more than {limit} later"
    state = with_trouble(state, NOT_CONFIRMED, text)
    back_off_s = _spread(_TRANSIENT_BACK_OFF_S, given.limits)
    return backed_off(looking_again(state, now_s), now_s, back_off_s, None), _wait(text)


_STEPS: Mapping[Phase, Callable[[State, Given], tuple[State, Decision]]] = {
    Phase.WATCHING: _watch,
    Phase.WARNED: _count_down,
    Phase.SAVING: _await_save,
    Phase.LAST_LOOK: _look_last,
    Phase.STOPPING: _await_end,
}
_NOT_ASKED_YET = (Phase.WARNED, Phase.SAVING, Phase.LAST_LOOK)
"""Phases of the end sequence in which the stop is not asked for."""


# ---------------------------------------------------------------- what calls it off


def _in_use(given: Given, *, warned: bool = False) -> str | None:
    """
    What keeps this Pod from being stopped for idleness, the strongest first.

    Once people are `warned`, what only pauses calls nothing off: work turns ACTIVE within a minute, and what comes
    for seconds again and again would bring a warning each time and keep the Pod for ever.
    """
    if given.moment.holds:
        hold = given.moment.holds[0]
        return f"held by {hold.who}: {hold.reason or 'no reason given'}"
    barring = [f for f in given.findings if f.bars and not (warned and f.pauses)]
    active = _active(given.findings)
    strongest = active or barring
    return "; ".join(f"{f.signal}: {f.reason}" for f in strongest) or None


def _called_off(state: State, given: Given) -> str | None:
    """Why the end sequence must not go on; None where it may."""
    now_s = given.moment.now_s
    if given.moment.refusal:
        return f"can't stop: {given.moment.refusal}"
    if given.stands(state.forced):
        return None
    if state.cause is not Cause.IDLE:
        taken_back = state.cause is Cause.REQUEST
        return "the request to stop was taken back" if taken_back else f"no longer so: {state.why}"
    use = _in_use(given, warned=True)
    if use:
        return use
    early = _too_early(given, max(state.idle_at_warning_s, idle_clock.idle_for_s(state.clock)))
    if early:
        return early
    if state.clock.zero_s > state.warned_s:
        return unseen(state, given) or "the quiet time was not seen well enough and is forgotten"
    if state.phase is not Phase.SAVING and now_s > state.void_s:
        late = f"not stopped within {format_duration(WARNING_VALID_S)} after the time that the warning named"
        return f"{late}; a new warning is due"
    return None


def _arisen(state: State, given: Given) -> Forced | None:
    """A ceiling or request for which people have not been warned: it comes in place of what they were warned of."""
    forced = given.forced
    if forced is None or forced.name in given.observed or given.stands(state.forced) or given.moment.refusal:
        return None
    return forced


def _cancelled(state: State, given: Given, why: str) -> tuple[State, Decision]:
    now_s = given.moment.now_s
    is_barred = state.cause is Cause.IDLE and _is_barred(given.findings)
    calm = replace(watching(state, now_s), barred_s=now_s if is_barred else None)
    return calm, Decision(action=Action.CANCEL, reason=why, cause=state.cause)


# ---------------------------------------------------------------- what outcomes do


def _after_save(state: State, outcome: Outcome, now_s: float, limits: Limits) -> State:
    if outcome.ok:
        began_s = state.save_began_s if outcome.save_began_s is None else outcome.save_began_s
        state = without_trouble(state, SAVE_FAILED)
        return looking(
            replace(state, saved=True, snapshot=outcome.snapshot, save_began_s=began_s, saved_s=now_s), now_s
        )
    state = with_trouble(state, SAVE_FAILED, outcome.reason)
    if limits.stop_without_save:
        return looking(replace(state, saved=False), now_s)
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
        # whoever asked may ask again, once it is mended
        answered = state.forced if state.cause is Cause.REQUEST else ""
        state = replace(with_trouble(state, STOP_REFUSED, outcome.reason), refused=answered)
        return backed_off(watching(state, now_s), now_s, _spread(_REFUSED_BACK_OFF_S, limits), None)
    state = with_trouble(state, STOP_FAILED, outcome.reason)
    back_off_s = _spread(_TRANSIENT_BACK_OFF_S, limits)
    return backed_off(looking_again(state, now_s), now_s, back_off_s, outcome.retry_after_s)


def _spread(back_off_s: Sequence[float], limits: Limits) -> list[float]:
    """An account's Pods share its rate limit: those that failed together must not ask together again."""
    return [wait_s * (1.0 + _SPREAD_SHARE * limits.spread) for wait_s in back_off_s]


def _is_barred(findings: Sequence[Finding]) -> bool:
    """Whether something bars by its presence: what only pauses is busy for a moment."""
    return any(finding.bars and not finding.pauses for finding in findings)


def _active(findings: Sequence[Finding]) -> list[Finding]:
    return [f for f in findings if f.activity is Activity.ACTIVE]


def _idle(state: State) -> str:
    return format_duration(idle_clock.idle_for_s(state.clock))


def _wait(reason: str) -> Decision:
    return Decision(action=Action.WAIT, reason=reason)
