"""
Puts real things together from the settings, for the daemon and for the verbs.

Used by `cli` only; the rest is handed what it needs.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from idlewatch.children.tasks import Task, task_starter
from idlewatch.durations import format_duration
from idlewatch.effects.actions import PodActions
from idlewatch.effects.observed import ObservedActions
from idlewatch.errors import Refused, SettingsError, SnapshotError
from idlewatch.kernel.own import registrations
from idlewatch.model import Json, Provider, Question, Signal, Surroundings
from idlewatch.notify import Terminals
from idlewatch.notify.addresses import Address, addresses
from idlewatch.notify.channel import Channel
from idlewatch.notify.words import PodNow, Words
from idlewatch.pod import key_place
from idlewatch.pod.assembled import Assembly
from idlewatch.pod.saving import own_files, save_plan
from idlewatch.pod.storage import storage_cost
from idlewatch.redact import Redactor
from idlewatch.settings import Loaded, Mode, OnSaveFailure, known_secrets
from idlewatch.signals import SIGNALS
from idlewatch.signals.redacted import RedactedSignal
from idlewatch.snapshot import read_mounts, require_library
from idlewatch.stopping.checkpoints import asked_processes
from idlewatch.telling.announcing import Announcer, Tells
from idlewatch.web import keep_link, served_at

_LINK_HOLDS_S = 2 * 3600.0


def signals(here: Assembly, gpus_before: Callable[[], int | None] = lambda: None) -> list[Signal]:
    """The signals to watch. Raises SettingsError for a name that is none, or that nothing is set for."""
    from idlewatch.signals.making import tie

    settings = here.loaded.settings
    auto = settings.signals == ("auto",)
    asked = tuple(SIGNALS) if auto else settings.signals
    unknown = [name for name in (*asked, *settings.ignore) if name not in SIGNALS]
    if unknown:
        known = ", ".join(SIGNALS)
        raise SettingsError([f"IDLEWATCH_SIGNALS, IDLEWATCH_IGNORE: no signal {unknown[0]!r}; there are: {known}"])
    pod = surroundings(here, gpus_before)
    made = {name: SIGNALS[name](pod) for name in asked if name not in settings.ignore}
    unset = [name for name, signal in made.items() if signal is None and not auto]
    if unset:
        raise SettingsError([f"IDLEWATCH_SIGNALS names {unset[0]}, but IDLEWATCH_{unset[0].upper()} is not set"])
    tie(made, lambda: registrations(settings.state_dir))
    own = [_own_signal(name, pod) for name in settings.extra_signals]
    return _without_secrets(here, [signal for signal in made.values() if signal], own)


def _without_secrets(here: Assembly, ours: Sequence[Signal], own: Sequence[Signal]) -> list[Signal]:
    """All of them; those that hear what others say can't pass a secret on. Ground signals read the kernel only."""
    clean = Redactor(known_secrets(here.loaded.sources)).clean
    kept = [RedactedSignal(signal, clean) if signal.refines else signal for signal in ours]
    return kept + [RedactedSignal(signal, clean, facts_too=True) for signal in own]


def surroundings(here: Assembly, gpus_before: Callable[[], int | None] = lambda: None) -> Surroundings:
    """What the signals are told."""
    settings, questions = here.loaded.settings, {}
    every_s, within_s = settings.command_every.total_seconds(), settings.command_within.total_seconds()
    if settings.command:
        request: Json = {"command": settings.command, "within_s": within_s}
        questions["command"] = Question(task="command", request=request, every_s=every_s, within_s=within_s)
    if settings.promql:
        request = {"url": settings.prometheus_url.get_secret_value(), "query": settings.promql, "within_s": within_s}
        questions["promql"] = Question(task="promql", request=request, every_s=every_s, within_s=within_s)
    return Surroundings(
        variables=here.loaded.pod_variables() | _jupyter_tokens(here.loaded),
        started_s=here.pod.started_s,
        connected_for_s=settings.connected_for.total_seconds(),
        gpus_before=gpus_before,
        gpu_limit_pct=settings.gpu_limit * 100,
        gpu_gpm=settings.gpu_gpm,
        servers=settings.servers,
        asked=lambda from_s, to_s: asked_processes(settings.state_dir, here.pod.boot_key, from_s, to_s),
        questions=questions,
        start_task=task_starter(),
    )


def _jupyter_tokens(loaded: Loaded) -> dict[str, str]:
    """Apart from the platform's other variables: these are secrets, and those are written into `settings.json`."""
    found = {name: loaded.pod_variable(name) for name in ("JUPYTER_PASSWORD", "JUPYTER_TOKEN")}
    tokens = {name: told[0] for name, told in found.items() if told}
    own = loaded.settings.jupyter_token
    return tokens | ({"IDLEWATCH_JUPYTER_TOKEN": own.get_secret_value()} if own else {})


def _own_signal(name: str, pod: Surroundings) -> Signal:
    """A signal of the owner's own, `package.module:factory`. Raises SettingsError where it can't be made."""
    module, _, factory = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), factory)(pod)
    except Exception as error:  # noqa: BLE001  (the owner's code: whatever it raises, its name must be told)
        told = f"{type(error).__name__}: {error}"
        raise SettingsError(
            [f"IDLEWATCH_EXTRA_SIGNALS: {name} gives no signal ({told}); write package.module:factory"]
        ) from None
    missing = [part for part in ("name", "refines", "read", "judge", "close") if not hasattr(made, part)]
    if missing or made.name in SIGNALS:
        why = f"it has no {', '.join(missing)}" if missing else f"the name {made.name!r} is taken"
        raise SettingsError([f"IDLEWATCH_EXTRA_SIGNALS: what {name} gives is no signal: {why}"])
    signal: Signal = made
    return signal


def provider(here: Assembly) -> Provider:
    """Who runs the Pod. Raises SettingsError where nobody is known."""
    from idlewatch.providers import PROVIDERS
    from idlewatch.providers.runpod import ApiKey

    settings, loaded = here.loaded.settings, here.loaded
    name = "runpod" if settings.provider == "auto" else settings.provider
    if name not in PROVIDERS:
        raise SettingsError([f"IDLEWATCH_PROVIDER: no provider {name!r}; there are: {', '.join(PROVIDERS)}"])
    own, injected = settings.runpod_api_key, loaded.pod_variable("RUNPOD_API_KEY")
    keys = [ApiKey(name="IDLEWATCH_RUNPOD_API_KEY", secret=own.get_secret_value())] if own else []
    if injected:
        keys.append(ApiKey(name="RUNPOD_API_KEY", secret=injected[0]))
    return PROVIDERS[name](
        identity=here.pod,
        environment=loaded.pod_variables(),
        keys=keys,
        rest_url=settings.runpod_api_url,
        graphql_url=settings.runpod_graphql_url,
    )


def actions(here: Assembly) -> PodActions | ObservedActions:
    """What carries decisions out: nothing at all where it only observes. Raises SettingsError for a misplaced key."""
    _refuse_misplaced_key(here)
    if here.loaded.settings.mode is Mode.OBSERVE:
        return ObservedActions()
    _require_library(here)
    return pod_actions(here, Terminals(), None, tmux=True)


def _refuse_misplaced_key(here: Assembly) -> None:
    """A file with the key of snapshots must not lie where they lie, nor where they are made of."""
    file = key_place.key_file(here.loaded.sources)
    if file is None:
        return
    name, path = file
    settings, kept = here.loaded.settings, here.volume if here.objects is None else None
    skip = () if here.save_root is None else own_files(here, here.save_root)
    why = key_place.misplaced(path, kept, here.save_root, read_mounts(), settings.excludes(), skip)
    if why:
        raise SettingsError([f"{name}={path}: {why}"])


def _require_library(here: Assembly) -> None:
    """At the start, not at the first save. Raises SettingsError."""
    if here.objects is not None and (why := here.objects.missing()):
        raise SettingsError([f"IDLEWATCH_SAVE_TO: {why}"])
    if here.loaded.settings.snapshot_key is not None:
        try:
            require_library()
        except SnapshotError as error:
            raise SettingsError([f"IDLEWATCH_SNAPSHOT_KEY: {error}"]) from None


def pod_actions(
    here: Assembly,
    people: Tells,
    environment: Mapping[str, str] | None,
    *,
    tmux: bool = False,
    wall: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> PodActions:
    """Real actions on this Pod; their child processes get `environment`, or this process's own.

    `people` are those in the Pod, `tmux` whether its tmux clients are told, too; `wall` the clock that they go by.
    Where IDLEWATCH_DRILL is set in `environment` they are a drill: no program is asked for anything, no channel told.
    """
    plan, drill = save_plan(here), bool(environment and environment.get("IDLEWATCH_DRILL"))
    start_task = task_starter(environment)
    ways = [] if drill else channels(here, start_task, tmux=tmux)
    announcer = Announcer(words=words(here, wall), people=people, channels=ways)
    return PodActions(start_task=start_task, save=plan, announcer=announcer, drill=drill)


def unsendable(here: Assembly) -> str | None:
    """Why some notices would reach nobody, in words; None: nothing stands in their way that can be seen beforehand."""
    labels = [address.label for address in addresses_of(here) if not address.webhook]
    if not labels or importlib.util.find_spec("apprise") is not None:
        return None
    return f"{', '.join(labels)} needs Apprise, which is missing: pip install '.[notify]' in a checkout of idlewatch"


def channels(
    here: Assembly, start_task: Callable[[str, Json, float, float], Task], *, tmux: bool = False
) -> list[Channel]:
    """The ways out of the Pod: tmux, and the addresses of IDLEWATCH_NOTIFY."""

    def channel(label: str, task: str) -> Channel:
        return Channel(
            label,
            lambda notice, now_s, within_s: start_task(task, {"channel": label, "notice": notice}, now_s, within_s),
        )

    sent = [channel(address.label, "send") for address in addresses_of(here)]
    return [*([channel("tmux", "tmux")] if tmux else []), *sent]


def addresses_of(here: Assembly) -> tuple[Address, ...]:
    """The addresses of IDLEWATCH_NOTIFY: secrets. Raises SettingsError where one is none."""
    try:
        return addresses(here.loaded.settings.notify.get_secret_value())
    except ValueError as error:
        raise SettingsError([f"IDLEWATCH_NOTIFY: {error}"]) from None


def words(here: Assembly, wall: Callable[[], datetime]) -> Words:
    """What is said of this Pod; `wall` is the clock that people go by."""
    plan, settings = save_plan(here), here.loaded.settings
    return Words(
        pod_id=here.pod.pod_id,
        saved_to=str(here.place) if plan.request is not None else None,
        lost=plan.impossible,
        storage=storage_cost(here),
        stops_unsaved=settings.on_save_failure is OnSaveFailure.STOP,
        wall=wall,
        now=PodNow(),
        link=lambda: _keep_link(here, wall()),
    )


def _keep_link(here: Assembly, now: datetime) -> str | None:
    """An address that holds the Pod by one press, for whoever reads a notice elsewhere; only while the page runs."""
    state_dir = here.loaded.settings.state_dir
    with contextlib.suppress(Refused, OSError):  # a notice without it is worth more than none
        url = served_at(state_dir)
        return keep_link(state_dir, url, _LINK_HOLDS_S, now) if url else None
    return None


def started_text(here: Assembly) -> str:
    """What the daemon will do here, in one sentence."""
    settings, plan = here.loaded.settings, save_plan(here)
    saved = (
        plan.needless
        or plan.impossible
        or f"{'saves' if here.acts else 'would save'} {here.save_root} to {here.place} first"
    )
    after = f"after {format_duration(settings.idle_limit.total_seconds())} of quiet" if settings.idle_limit else "never"
    quiet = "after a learned time of quiet" if settings.learns else after
    return f"{settings.mode.value}: {quiet}; {saved}"
