"""What the policy remembers from tick to tick, and the ways in which that moves on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from idlewatch.deciding import clock as idle_clock
from idlewatch.deciding import troubles as trouble
from idlewatch.deciding.ceilings import Forced
from idlewatch.deciding.clock import IdleClock
from idlewatch.deciding.troubles import Blindness
from idlewatch.model import Cause, Phase

WARNING_VALID_S = 15 * 60.0
"""How long past its deadline a warning still covers a stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the policy remembers from tick to tick."""

    clock: IdleClock
    phase: Phase = Phase.WATCHING
    cause: Cause | None = None
    why: str = ""
    """Why the end sequence runs, as the warning said."""
    forced: str = ""
    """Name of the ceiling or request that it runs for; empty: none."""
    warned_s: float = 0.0
    warn_for_s: float = 0.0
    idle_at_warning_s: float = 0.0
    void_s: float = 0.0
    """When the warning has grown too old to stop on."""
    saves: int = 0
    """How many saves this end sequence has begun."""
    saved: bool = False
    """Whether the end sequence has a save, or there was nothing to save."""
    snapshot: str | None = None
    save_began_s: float = 0.0
    saved_s: float = 0.0
    """When that save ended."""
    asked_s: float = 0.0
    """When an asked program was last seen to do something; older saves may lack it."""
    busy_s: float = 0.0
    """When a finding last paused the idle clock; older saves may lack what was done then."""
    barred_s: float | None = None
    """When something last barred a warning, since a bar called one off; None: none did."""
    refused: str = ""
    """Name of the request whose stop the provider refused for good: it stands no longer."""
    look_from_s: float = 0.0
    accepted_s: float | None = None
    """When the provider accepted the stop."""
    failures: int = 0
    failed_s: float = 0.0
    """When it last failed."""
    retry_s: float = 0.0
    """Nothing is begun, and no stop is asked for, before this instant."""
    observed_zero_s: float | None = None
    """The clock's zero of the idle stretch in which `observe` would have stopped the Pod."""
    observed: tuple[str, ...] = ()
    """Names of the ceilings and requests that stand, and for which `observe` would have stopped the Pod already."""
    blind: Blindness = field(default_factory=Blindness)
    troubles: Mapping[str, str] = field(default_factory=dict)
    """Alarms that still hold, by name."""


def started(now_s: float) -> State:
    """What is remembered at the first tick of a container: nothing, and the idle clock at 0."""
    return State(clock=idle_clock.started(now_s))


def watching(state: State, now_s: float) -> State:
    """Back to watching; what the end sequence had is dropped, troubles and back-off stand."""
    fresh = started(now_s)
    return replace(
        fresh,
        clock=state.clock,
        failures=state.failures,
        failed_s=state.failed_s,
        retry_s=state.retry_s,
        busy_s=state.busy_s,
        barred_s=state.barred_s,
        refused=state.refused,
        observed_zero_s=state.observed_zero_s,
        observed=state.observed,
        blind=state.blind,
        troubles=state.troubles,
    )


def warned(state: State, forced: Forced, now_s: float, warn_for_s: float) -> State:
    """People are told, for `warn_for_s`; whatever an earlier end sequence had is dropped.

    `forced`: what it runs for, without a name where that is idleness.
    """
    return replace(
        watching(state, now_s),
        phase=Phase.WARNED,
        cause=forced.cause,
        why=forced.why,
        forced=forced.name,
        warned_s=now_s,
        warn_for_s=warn_for_s,
        idle_at_warning_s=idle_clock.idle_for_s(state.clock),
        void_s=now_s + warn_for_s + WARNING_VALID_S,
    )


def saving(state: State, now_s: float) -> State:
    """A save is made; an earlier one counts no more."""
    return replace(state, phase=Phase.SAVING, save_began_s=now_s, saves=state.saves + 1, saved=False, snapshot=None)


def looking(state: State, now_s: float) -> State:
    """The last look begins, after a save or without one; the warning covers a stop for a while longer."""
    return replace(state, phase=Phase.LAST_LOOK, look_from_s=now_s, void_s=max(state.void_s, now_s + WARNING_VALID_S))


def looking_again(state: State, now_s: float) -> State:
    """Back to the last look, which must see everything quiet anew before the next call."""
    return replace(state, phase=Phase.LAST_LOOK, look_from_s=now_s)


def stopping(state: State) -> State:
    """The provider is asked for the stop."""
    return replace(state, phase=Phase.STOPPING, accepted_s=None)


def backed_off(state: State, now_s: float, steps_s: Sequence[float], retry_after_s: float | None) -> State:
    """Return the state that tries again no sooner than this failure's step says, or than `retry_after_s`."""
    wait_s = max(steps_s[min(state.failures, len(steps_s) - 1)], retry_after_s or 0.0)
    return replace(state, failures=state.failures + 1, failed_s=now_s, retry_s=now_s + wait_s)


def with_trouble(state: State, name: str, text: str) -> State:
    """Return the state in which the trouble `name` stands, saying `text`."""
    return replace(state, troubles=trouble.with_trouble(state.troubles, name, text))


def without_trouble(state: State, name: str) -> State:
    """Return the state in which the trouble `name` is over."""
    if name not in state.troubles:
        return state
    return replace(state, troubles=trouble.without_trouble(state.troubles, name))
