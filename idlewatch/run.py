"""
The daemon from its start to its end: put together, watched until a shutdown request, taken apart.

What it wants to know of its provider and of the stop before this start comes from errands in the background; until
they have come back, it is not known.

Where it only observes (IDLEWATCH_MODE=observe), it writes nothing outside its state folder but this boot's history in
the Pod's folder on the volume: that is recording, and without it nothing of what was observed would outlive the Pod.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from idlewatch import assembly, heartbeat, log_writer, login
from idlewatch.assembly import Assembly
from idlewatch.background import Background, Errand
from idlewatch.daemon import Actions, Daemon, Record, Tick
from idlewatch.errors import ProviderRefused, Refused
from idlewatch.gaps import gap_of
from idlewatch.history import History
from idlewatch.host.announced import Announced
from idlewatch.host.notify_socket import NotifySocket
from idlewatch.hours import parse_working_hours
from idlewatch.learning import Learner
from idlewatch.lock import KeptFolder
from idlewatch.model import Json, Signal
from idlewatch.patience import Stakes, restart_usd
from idlewatch.record import DaemonRecord
from idlewatch.saving_again import PeriodicSaves
from idlewatch.settings import Mode, OnSaveFailure
from idlewatch.shutdown import ending_of
from idlewatch.stop_requests import Requests
from idlewatch.watch import Known, MachineClock, Moments
from idlewatch.winding_up import WindUp

log = structlog.get_logger()

DESCRIBE, LOOK_BACK, ARCHIVE, HOOKS, AFTER_START = "describe", "look_back", "archive", "hooks", "after_start"
HEARTBEAT, PING, NOTE_IMAGE = "heartbeat", "ping", "note_image"
_NOTE_IMAGE_S = 600.0
"""A walk over a disk of millions of files says nothing for minutes."""
_DESCRIBE_EVERY_S = 6 * 3600.0
_ARCHIVE_EVERY_S = 3600.0
_HOOKS_EVERY_S = 3600.0
_FIRST_BEAT_S = 10.0
"""A sign of life is drawn from what the first ticks have shown."""
_LOOK_BACK_S = 15 * 60.0
"""The longest window of any judge."""


class TellingActions(Actions, Protocol):
    """Actions that have something to say for the timeline, and that tell people what the daemon sees."""

    def told(self) -> list[Json]:
        """What has happened in them since the last call."""
        ...

    def hear(self, report: Tick, pod_name: str | None = None) -> None:
        """Have people told what a tick raised; `pod_name`: what its owner calls the Pod, where known."""
        ...

    def troubles(self) -> dict[str, str | None]:
        """Ways to tell people that don't work, by the name of the trouble; None: it does."""
        ...

    def ended(self, why: str, now_s: float) -> None:
        """Have people told that the daemon ends."""
        ...

    def finish(self, now_s: Callable[[], float], sleep: Callable[[float], None], within_s: float) -> None:
        """Wait for what is still being told, for `within_s` seconds at the most."""
        ...


def watch(here: Assembly, *, signals: Sequence[Signal] | None = None, actions: TellingActions | None = None) -> None:
    """
    Watch this Pod until a shutdown request comes; the state folder's lock is held by the caller.

    Raises Refused where the folder was removed and another daemon has taken its place.
    """
    log_writer.never_fail(sys.stderr)
    clock = MachineClock()
    clock.end_on_shutdown_request()
    refusal = assembly.provider(here).refusal()
    background = Background(_errands(here, refusal), assembly.task_starter())
    known = _Knowledge(here, background, refusal, clock.wall)
    watched = assembly.signals(here, known.gpus_before) if signals is None else signals
    state_dir = here.loaded.settings.state_dir
    with contextlib.closing(History(state_dir)) as history, contextlib.closing(KeptFolder(state_dir)) as folder:
        acting = actions or assembly.actions(here)
        record = DaemonRecord(
            history,
            clock,
            here.loaded,
            here.pod,
            known.previous_stop,
            told=lambda: [*acting.told(), *background.told(), *known.told()],
            made_again=folder.made_again,
        )
        known.learner, known.saves = _learner(here, clock), _saves(here)
        known.found_here = lambda: {**record.troubles(), **acting.troubles()}
        _show_at_login(here)
        log.info("started", pod=here.pod.pod_id, will=assembly.started_text(here), refusal=refusal)
        systemd = NotifySocket(here.loaded.sources[0].variables)
        daemon = _daemon(here, clock, watched, acting, record, history, known, systemd)
        _run_to_its_end(daemon, clock)
        systemd.stopping()
        known.close()
        WindUp(here, clock, daemon, record, background, acting).run(ending_of(clock.sender))


def _daemon(
    here: Assembly,
    clock: MachineClock,
    signals: Sequence[Signal],
    actions: TellingActions,
    record: DaemonRecord,
    history: History,
    known: _Knowledge,
    systemd: NotifySocket,
) -> Daemon:
    """The daemon, with what an earlier one of this start left in the history."""
    state = history.remembered(here.pod.boot_key, record.settings_key)
    daemon = Daemon(
        clock=clock,
        signals=signals,
        actions=actions,
        record=Announced(
            _KeptAndHeard(record, actions, known.pod_name, known.others()),
            systemd,
            here.loaded.settings.interval.total_seconds(),
        ),
        moment=_moments(here, clock, known, record),
        limits=here.loaded.settings.limits(),
        state=state,
    )
    if state:
        daemon.look_back(history.readings_since(clock.now_s() - _LOOK_BACK_S))
    return daemon


class _KeptAndHeard:
    """Each tick is kept and then told, both before what it decided is begun; then others have their turn."""

    def __init__(
        self,
        record: DaemonRecord,
        actions: TellingActions,
        pod_name: Callable[[], str | None],
        others: Sequence[Record],
    ) -> None:
        self._record, self._actions, self._pod_name, self._others = record, actions, pod_name, others

    def tick(self, report: Tick) -> None:
        """Keep it, tell it."""
        self._record.tick(report)
        self._actions.hear(report, self._pod_name())
        for other in self._others:
            other.tick(report)


def _run_to_its_end(daemon: Daemon, clock: MachineClock) -> None:
    try:
        daemon.run(until=clock.ended)
    except Refused:
        daemon.close()
        raise


def _moments(here: Assembly, clock: MachineClock, known: _Knowledge, record: DaemonRecord) -> Moments:
    settings = here.loaded.settings
    requests = Requests(
        settings.state_dir,
        here.pod.boot_key,
        began_s=clock.now_s(),
        began=clock.wall(),
        refused=lambda text: record.happened("request refused", text),
    )
    return Moments(
        state_dir=settings.state_dir,
        pod=here.pod,
        hold_max_s=settings.hold_max.total_seconds(),
        known=known,
        request=requests.standing,
        observing=not _acts(here),
    )


def _learner(here: Assembly, clock: MachineClock) -> Learner | None:
    """What learns the idle limit; None where it is set."""
    settings = here.loaded.settings
    if not settings.learns:
        return None

    def stakes(usd_per_hour: float) -> Stakes:
        restart = restart_usd(
            usd_per_hour=usd_per_hour,
            takes_s=settings.restart_takes.total_seconds(),
            person_usd_per_hour=settings.person_usd_per_hour,
            unlucky=settings.restart_unlucky,
        )
        bounds_s = settings.auto_least.total_seconds(), settings.auto_most.total_seconds()
        return Stakes(usd_per_hour=usd_per_hour, restart_usd=restart, least_s=bounds_s[0], most_s=bounds_s[1])

    default_s = settings.idle_limit.total_seconds()
    return Learner(settings.state_dir, stakes=stakes, wall=clock.wall, default_s=default_s)


def _saves(here: Assembly) -> PeriodicSaves | None:
    """The saves while the Pod is in use; None where none are wanted, or there is nothing to save or nowhere to."""
    every_s = here.loaded.settings.save_every.total_seconds()
    if not every_s or not _acts(here) or here.save_root is None or here.volume is None:
        return None
    return PeriodicSaves(assembly.task_starter(), every_s)


def _errands(here: Assembly, refusal: str | None) -> list[Errand]:
    errands = []
    if refusal is None:
        errands.append(Errand(name=DESCRIBE, every_s=_DESCRIBE_EVERY_S, silent_limit_s=120.0))
    if here.save_root is not None:
        errands.append(Errand(name=NOTE_IMAGE, silent_limit_s=_NOTE_IMAGE_S))
    errands.append(Errand(name=HOOKS, every_s=_HOOKS_EVERY_S))
    if _acts(here):
        errands.append(Errand(name=AFTER_START))
    if here.volume:
        archive = Errand(name=ARCHIVE, first_after_s=_ARCHIVE_EVERY_S, every_s=_ARCHIVE_EVERY_S, at_end=True)
        errands += [Errand(name=LOOK_BACK), archive]
    return errands + (_signs_of_life(here) if _acts(here) else [])


def _signs_of_life(here: Assembly) -> list[Errand]:
    settings = here.loaded.settings
    every_s = settings.heartbeat_every.total_seconds()
    names = [HEARTBEAT] if here.volume else []
    names += [PING] if settings.heartbeat_url else []
    return [
        Errand(
            name=name,
            first_after_s=min(every_s, _FIRST_BEAT_S),
            every_s=every_s,
            silent_limit_s=heartbeat.WITHIN_S,
            at_end=name == HEARTBEAT,
        )
        for name in names
    ]


def _acts(here: Assembly) -> bool:
    """Whether what is decided is done; else nothing outside the state folder is touched."""
    return here.loaded.settings.mode is Mode.STOP


def _show_at_login(here: Assembly) -> None:
    """Best effort: it must not keep the daemon from watching."""
    if not _acts(here):
        return
    with contextlib.suppress(OSError):
        login.show_at_login(here.save_root, here.loaded.settings.state_dir)


def _without_save(here: Assembly) -> str | None:
    """What to say from the start where nothing can be saved before a stop; None where it can, or need not."""
    impossible, settings = assembly.save_plan(here).impossible, here.loaded.settings
    if impossible is None or not _acts(here):
        return None
    if settings.on_save_failure is OnSaveFailure.STOP:
        return f"{impossible}; it is stopped all the same (IDLEWATCH_ON_SAVE_FAILURE=stop)"
    return f"{impossible}; so it is kept up, idle or not, unless you set IDLEWATCH_ON_SAVE_FAILURE=stop"


class _Knowledge:
    """What is known of this Pod from its provider, its owner and its last stop, as `watch.Moments` asks for it."""

    def __init__(
        self, here: Assembly, background: Background, refusal: str | None, wall: Callable[[], datetime]
    ) -> None:
        """`refusal`: why not to stop at all, from the environment alone."""
        hours = here.loaded.settings.working_hours
        self._hours, self._wall = parse_working_hours(hours) if hours else None, wall
        self._unsaved = _without_save(here)
        self._price = here.loaded.settings.usd_per_hour
        self._acts = _acts(here)
        self._background, self._refusal = background, refusal
        self.found_here: Callable[[], Mapping[str, str | None]] = dict
        """Troubles of the daemon's own: its state folder, its ways to tell people."""
        self.learner: Learner | None = None
        self.saves: PeriodicSaves | None = None
        self._taught = False

    def __call__(self, now_s: float) -> Known:
        """Let the errands move on, and return what is known by now."""
        self._background.poll(now_s)
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
                "no save": self._unsaved,
                "RunPod's API": self._refused(),
                "history": self._failed(ARCHIVE),
                "heartbeat": self._listed(HEARTBEAT, "failed"),
                "heartbeat address": self._listed(PING, "failed"),
                "saves while in use": self.saves.error if self.saves else None,
                "names of the image": self._failed(NOTE_IMAGE, "deletions are not known"),
                "hooks": self._listed(HOOKS, "refused"),
                "after-start hooks": self._listed(AFTER_START, "failed"),
                **self.found_here(),
            },
        )

    def others(self) -> list[Record]:
        """Who wants to see each tick beside the record."""
        return [one for one in (self.learner, self.saves) if one]

    def told(self) -> list[Json]:
        """What is to be said of the saves while in use, once."""
        return self.saves.told() if self.saves else []

    def close(self) -> None:
        """End what is under way."""
        if self.saves:
            self.saves.close()

    def _teach(self) -> None:
        """Hand over what the volume knows of earlier gaps, once."""
        found = self._result(LOOK_BACK).get("gaps")
        if self.learner and not self._taught and isinstance(found, list):
            self._taught = True
            self.learner.learn(gap for gap in map(gap_of, found) if gap)

    def previous_stop(self) -> str | None:
        """What the note on the volume proves of the stop before this start."""
        text = self._result(LOOK_BACK).get("text")
        return None if text is None else str(text)

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
        error = self._background.errors.get(DESCRIBE)
        return f"a stop may fail: {error}" if isinstance(error, ProviderRefused) else None

    def _failed(self, name: str, means: str = "not kept on the volume") -> str | None:
        error = self._background.errors.get(name)
        return f"{means}: {error}" if error else None
