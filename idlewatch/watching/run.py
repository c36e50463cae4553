"""
The daemon from its start to its end: put together, watched until a shutdown request, taken apart.

What it wants to know of its provider and of the stop before this start comes from errands in the background; until
they have come back, it is not known.

Where it only observes (IDLEWATCH_MODE=observe), it writes nothing outside its state folder but this boot's history in
the Pod's folder on the volume: that is recording, and without it nothing of what was observed would outlive the Pod.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from idlewatch import assembly
from idlewatch.children.tasks import task_starter
from idlewatch.deciding.tick import Tick
from idlewatch.errors import Refused
from idlewatch.history import timeline
from idlewatch.history.store import History
from idlewatch.host import restoring
from idlewatch.host.notify_socket import NotifySocket
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json, Signal
from idlewatch.pod.assembled import Assembly
from idlewatch.redact import Redactor
from idlewatch.requests.hold_events import HoldEvents, standing_in
from idlewatch.requests.stop_requests import Requests
from idlewatch.settings import known_secrets
from idlewatch.state_folder import KeptFolder
from idlewatch.telling import login
from idlewatch.watching import log_writer, reload
from idlewatch.watching.announced import Announced
from idlewatch.watching.background import Background
from idlewatch.watching.daemon import Actions, Daemon, Record
from idlewatch.watching.errands import errands
from idlewatch.watching.knowledge import Knowledge, asked_saves_of, learner_of, saves_of
from idlewatch.watching.moments import Moments
from idlewatch.watching.record import DaemonRecord
from idlewatch.watching.shutdown import ending_of
from idlewatch.watching.sight import SightLog
from idlewatch.watching.winding_up import WindUp

log = structlog.get_logger()

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

    def ask_to_end(self, now_s: float) -> None:
        """Ask what is under way to end; never blocks."""
        ...

    def close(self, within_s: float = 5.0) -> None:
        """End what is under way, hard after `within_s` seconds."""
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
    restores = restoring.why_not(here, clock.now_s(), clock.wall(), in_front=False) is None
    background = Background(errands(here, refusal, restores=restores), task_starter())
    known = Knowledge(here, background, refusal, clock.wall)
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
            told=lambda: [*acting.told(), *background.told(), *known.told(), *timeline.taken(state_dir)],
            made_again=folder.made_again,
            asked_save=known.asked_save,
            advice=known.advice,
        )
        known.learner, known.saves = learner_of(here, clock), saves_of(here)
        known.asked_saves = asked_saves_of(here, clock, lambda text: record.happened("request refused", text))
        known.found_here = lambda: {**record.troubles(), **acting.troubles()}
        _show_at_login(here)
        log.info("started", pod=here.pod.pod_id, will=assembly.started_text(here), refusal=refusal)
        systemd = NotifySocket(here.loaded.sources[0].variables)
        daemon = _daemon(here, clock, watched, acting, record, history, known, systemd)
        _run_to_its_end(daemon, lambda: reload.ends(clock, record.happened, reload.sources_of_next_start))
        asked_s = clock.now_s()
        systemd.stopping()
        WindUp(here, clock, daemon, record, known, acting).run(ending_of(clock.sender), asked_s)


def _daemon(
    here: Assembly,
    clock: MachineClock,
    signals: Sequence[Signal],
    actions: TellingActions,
    record: DaemonRecord,
    history: History,
    known: Knowledge,
    systemd: NotifySocket,
) -> Daemon:
    """The daemon, with what an earlier one of this start left in the history."""
    state = history.remembered(here.pod.boot_key, record.settings_key)
    limits = replace(here.loaded.settings.limits(), spread=_place_among_pods(here.pod.boot_key))
    daemon = Daemon(
        clock=clock,
        signals=signals,
        actions=actions,
        record=Announced(
            _KeptAndHeard(record, actions, known.pod_name, [*known.others(), SightLog(limits.blind_limit_s)]),
            systemd,
            limits.interval_s,
        ),
        moment=_moments(here, clock, known, record),
        limits=limits,
        state=state,
    )
    if state:
        daemon.look_back(history.readings_since(clock.now_s() - _LOOK_BACK_S))
    return daemon


def _place_among_pods(boot_key: str) -> float:
    """From 0 to 1, evenly spread over an account's Pods, and the same for all of one start."""
    return int.from_bytes(hashlib.sha256(boot_key.encode()).digest()[:4]) / 2**32


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


def _run_to_its_end(daemon: Daemon, until: Callable[[], bool]) -> None:
    try:
        daemon.run(until=until)
    except Refused:
        daemon.close()
        raise


def _moments(here: Assembly, clock: MachineClock, known: Knowledge, record: DaemonRecord) -> Moments:
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
        observing=not here.acts,
        clean=Redactor(known_secrets(here.loaded.sources)).clean,
        hold_events=HoldEvents(record.happened, clock.wall, standing_in(settings.state_dir)),
    )


def _show_at_login(here: Assembly) -> None:
    """Best effort: it must not keep the daemon from watching."""
    if not here.acts:
        return
    with contextlib.suppress(OSError):
        login.show_at_login(here.save_root, here.loaded.settings.state_dir)
