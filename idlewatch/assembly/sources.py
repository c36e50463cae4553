"""The signals of this Pod, and what they are told of it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence

from idlewatch.children.tasks import task_starter
from idlewatch.errors import SettingsError
from idlewatch.kernel.own import registrations
from idlewatch.model import Json, Question, Signal, Surroundings
from idlewatch.pod.assembled import Assembly
from idlewatch.redact import Redactor
from idlewatch.settings import Loaded, known_secrets
from idlewatch.signals import SIGNALS
from idlewatch.signals.redacted import RedactedSignal
from idlewatch.stopping.checkpoints import asked_processes


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
