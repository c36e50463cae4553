"""
What is known of this Pod beside what its signals see: from its provider, its owner, its volume and its last stop.

It comes from errands in the background; until they have come back, it is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from idlewatch import assembly
from idlewatch.children.tasks import task_starter
from idlewatch.deciding.hours import parse_working_hours
from idlewatch.errors import ProviderRefused
from idlewatch.host import restoring
from idlewatch.host.restoring import Became, Mark
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.pod.assembled import Assembly
from idlewatch.pod.saving import save_plan
from idlewatch.requests.save_requests import SaveRequests
from idlewatch.settings import OnSaveFailure
from idlewatch.stopping.past_starts import Start, too_many
from idlewatch.watching.asked_saves import AskedSaves
from idlewatch.watching.background import Background
from idlewatch.watching.daemon import Record
from idlewatch.watching.errands import (
    ADVISE,
    AFTER_START,
    ARCHIVE,
    DESCRIBE,
    HEARTBEAT,
    HOOKS,
    LOOK_BACK,
    LOOK_FOR_VOLUME,
    NOTE_IMAGE,
    PING,
    RESTORE,
)
from idlewatch.watching.gaps import gap_of
from idlewatch.watching.learning import Learner, stakes_of
from idlewatch.watching.moments import Known
from idlewatch.watching.saving_again import PeriodicSaves

_UNREACHABLE_TRIES = 2
"""So often in a row must the provider have been out of reach before people hear of it: five minutes."""


def _without_save(here: Assembly, impossible: str | None) -> str | None:
    """What to say where nothing can be saved before a stop, and why; None where it can, or need not."""
    if impossible is None or not here.acts:
        return None
    if here.loaded.settings.on_save_failure is OnSaveFailure.STOP:
        return f"{impossible}; it is stopped all the same (IDLEWATCH_ON_SAVE_FAILURE=stop)"
    return (
        f"{impossible}; so it is kept up, idle or not, unless you set IDLEWATCH_SAVE_TO (object storage) or "
        "IDLEWATCH_ON_SAVE_FAILURE=stop"
    )


def learner_of(here: Assembly, clock: MachineClock) -> Learner | None:
    """What learns the idle limit; None where it is set."""
    settings = here.loaded.settings
    if not settings.learns:
        return None
    return Learner(
        settings.state_dir,
        stakes=stakes_of(settings),
        wall=clock.wall,
        default_s=settings.idle_limit.total_seconds(),
        warn_s=settings.warn_for.total_seconds(),
    )


def saves_of(here: Assembly) -> PeriodicSaves | None:
    """The saves while the Pod is in use; None where none are wanted, or there is nothing to save or nowhere to."""
    every_s = here.loaded.settings.save_every.total_seconds()
    if not every_s or not here.acts or here.save_root is None or here.place is None:
        return None
    return PeriodicSaves(task_starter(), every_s)


def asked_saves_of(here: Assembly, clock: MachineClock, refused: Callable[[str], object]) -> AskedSaves:
    """The saves that somebody asks for; `refused` is told of a request that does not count."""
    plan = save_plan(here)
    impossible = plan.impossible or plan.needless if here.acts else "idlewatch only observes here"
    state_dir, key = here.loaded.settings.state_dir, here.pod.boot_key
    request = SaveRequests(state_dir, key, began_s=clock.now_s(), began=clock.wall(), refused=refused)
    return AskedSaves(task_starter(), request, impossible=impossible)


class Knowledge:
    """What is known of this Pod from its provider, its owner and its last stop, as `moments.Moments` asks for it."""

    def __init__(
        self, here: Assembly, background: Background, refusal: str | None, wall: Callable[[], datetime]
    ) -> None:
        """`refusal`: why not to stop at all, from the environment alone."""
        hours = here.loaded.settings.working_hours
        self._hours, self._wall = parse_working_hours(hours) if hours else None, wall
        self._unsendable = assembly.unsendable(here) if here.acts else None
        self._here, self._impossible = here, save_plan(here).impossible
        self._price = here.loaded.settings.usd_per_hour
        self._acts = here.acts
        self._background, self._refusal = background, refusal
        self.found_here: Callable[[], Mapping[str, str | None]] = dict
        """Troubles of the daemon's own: its state folder, its ways to tell people."""
        self.learner: Learner | None = None
        self.saves: PeriodicSaves | None = None
        self.asked_saves: AskedSaves | None = None
        self._taught = False
        self._mark_of: Callable[[], Mark | None] = lambda: restoring.mark_of(here)
        self._mark: Mark | None = None

    def __call__(self, now_s: float) -> Known:
        """Let the errands move on, and return what is known by now."""
        self._background.poll(now_s)
        self._mark = self._mark_of()
        self._teach()
        told = self._result(DESCRIBE)
        price = self._price or told.get("usd_per_hour")
        forbidden = told.get("forbids")
        refusal = self._refusal or (str(forbidden) if forbidden else None)
        return Known(
            usd_per_hour=float(price) if isinstance(price, int | float) and price else None,
            refusal=refusal if self._acts else None,
            working=self._hours is not None and self._hours.includes(self._wall()),
            patience=self.learner.chosen if self.learner else None,
            troubles={
                "no save": _without_save(self._here, self._impossible or self._missing()),
                "notices": self._unsendable,
                "RunPod's API": self._refused(),
                "history": self._failed(ARCHIVE),
                "heartbeat": self._listed(HEARTBEAT, "failed"),
                "heartbeat address": self._listed(PING, "failed"),
                "saves while in use": self.saves.error if self.saves else None,
                "restore": self._not_restored(),
                "starts": self._restarts(),
                "names of the image": self._failed(NOTE_IMAGE, "deletions are not known"),
                "hooks": self._listed(HOOKS, "refused"),
                "after-start hooks": self._listed(AFTER_START, "failed"),
                **self.found_here(),
            },
        )

    def others(self) -> list[Record]:
        """Who wants to see each tick beside the record."""
        return [one for one in (self.learner, self.saves, self.asked_saves) if one]

    def told(self) -> list[Json]:
        """What is to be said of the saves while in use, once."""
        return [event for saves in self._all_saves() for event in saves.told()]

    def advice(self) -> Json:
        """Waste that is not idleness, as the newest look at the history found it."""
        return self._result(ADVISE).get("advice") or []

    def asked_save(self) -> Json:
        """The newest save that somebody asked for, for `status.json`."""
        return self.asked_saves.now() if self.asked_saves else None

    def _all_saves(self) -> list[PeriodicSaves | AskedSaves]:
        return [saves for saves in (self.saves, self.asked_saves) if saves]

    def ask_to_end(self, now_s: float) -> None:
        """Ask what is under way to end; never blocks."""
        self._background.ask_to_end(now_s)
        for saves in self._all_saves():
            saves.ask_to_end(now_s)

    def close(self, now_s: Callable[[], float], sleep: Callable[[float], None], within_s: float) -> None:
        """End what is under way, and do what is to be done at the end; for `within_s` seconds at the most."""
        ends_s = now_s() + within_s
        for saves in self._all_saves():
            saves.close(max(0.0, min(within_s / 2, ends_s - now_s())))
        self._background.close(now_s, sleep, max(0.0, ends_s - now_s()))

    def _teach(self) -> None:
        """Hand over what the volume knows of earlier gaps, once."""
        found = self._result(LOOK_BACK).get("gaps")
        if self.learner and not self._taught and isinstance(found, list):
            self._taught = True
            self.learner.learn(gap for gap in map(gap_of, found) if gap)

    def previous_stop(self) -> str | None:
        """What the note on the volume proves of the stop before this start, and what is back or can be had back."""
        said, mark = self._result(LOOK_BACK), self._mark
        if mark and mark.became is Became.DONE and mark.snapshot:
            told = [said.get("brought_back"), mark.text]
        else:
            told = [said.get("text"), said.get("offer")]
        return "; ".join(str(text) for text in told if text) or None

    def pod_name(self) -> str | None:
        """What its owner calls this Pod, as the provider tells it."""
        name = self._result(DESCRIBE).get("name")
        return name if isinstance(name, str) else None

    def gpus_before(self) -> int | None:
        """How many GPUs the note on the volume counts before the last stop."""
        gpus = self._result(LOOK_BACK).get("gpus")
        return gpus if isinstance(gpus, int) else None

    def _listed(self, name: str, what: str) -> str | None:
        """The sentences in an errand's result; None where there are none."""
        found = self._result(name).get(what)
        return "; ".join(map(str, found)) or None if isinstance(found, list) else None

    def _result(self, name: str) -> dict[str, Json]:
        result = self._background.results.get(name)
        return result if isinstance(result, dict) else {}

    def _refused(self) -> str | None:
        """Why a stop may be refused or not even be asked for; a machine that only starts has minutes to come up."""
        error = self._background.errors.get(DESCRIBE)
        lasts = isinstance(error, ProviderRefused) or self._background.failures(DESCRIBE) >= _UNREACHABLE_TRIES
        return f"a stop may fail: {error}" if error and lasts else None

    def _restarts(self) -> str | None:
        found = self._result(LOOK_BACK).get("starts")
        starts = [Start("", datetime.fromisoformat(str(at))) for at in found] if isinstance(found, list) else []
        return too_many(starts, self._wall())

    def _missing(self) -> str | None:
        missing = self._result(LOOK_FOR_VOLUME).get("missing")
        return str(missing) if missing else None

    def _not_restored(self) -> str | None:
        if self._background.is_under_way(RESTORE):
            return None
        if self._mark:
            return None if self._mark.became is Became.DONE else self._mark.text
        return self._failed(RESTORE, "not brought back")

    def _failed(self, name: str, means: str = "not kept on the volume") -> str | None:
        error = self._background.errors.get(name)
        return f"{means}: {error}" if error else None
