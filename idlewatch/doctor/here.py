"""
What the settings, the state folder and this shell say: all that is known without looking at anything that may hang.

Its child processes are given every variable that was found, from wherever: in a shell over SSH they have none.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from idlewatch import assembly
from idlewatch.doctor import drilled
from idlewatch.doctor.looks_signals import gpu_facts
from idlewatch.errors import SettingsError
from idlewatch.history.status import is_stale, mapping, number
from idlewatch.history.store import newest_of, readings_of, status_of
from idlewatch.model import Json, PodIdentity
from idlewatch.pod import identity as pod
from idlewatch.pod.assembled import Assembly
from idlewatch.pod.keys import FoundKey, found_keys
from idlewatch.providers.runpod import WORKER_VARIABLES
from idlewatch.settings import (
    PREFIX,
    SETTINGS_FILE,
    Loaded,
    Source,
    daemon_source,
    load,
    settings_record,
)
from idlewatch.signals.gpu import GpuSignal
from idlewatch.state_folder import daemon_watches

RUNPOD = "RUNPOD_"
ALSO_THE_DAEMONS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy")
"""What changes how the API is reached: a daemon that PID 1 started has PID 1's."""
_COMPARED = ("RUNPOD_POD_ID", "RUNPOD_GPU_COUNT", "RUNPOD_VOLUME_ID", "RUNPOD_ENDPOINT_ID")
_LATEST_READINGS = 200
_SCHEME = re.compile(r"(?:^|[,\s])\s*([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """Facts of this shell, this Pod's variables and the daemon, as values."""

    loaded: Loaded
    pod: PodIdentity
    refusal: str | None
    """Why the provider would not stop this Pod, by its environment alone."""
    is_pod: bool = True
    """False: this is no Pod that could ever be stopped, but somebody's own machine or a Serverless worker."""
    root: bool = True
    """Whether root asks: others can't read everything."""
    unreadable: str | None = None
    """What the daemon wrote and this user can't read: the state folder, or the settings in it."""
    keys: tuple[FoundKey, ...]
    watched: Mapping[str, bool]
    """Name of each signal that is watched -> whether it only refines."""
    status: Mapping[str, Json] | None
    """What the daemon last showed."""
    running: bool
    """A daemon watches, and ticks."""
    age_s: float
    """How old that is."""
    daemon_told: bool
    """A daemon has written down what it was told."""
    daemon_own_key: bool | None
    """Whether the daemon was given a key of the owner's; None: not known."""
    differing: tuple[tuple[str, str, str], ...]
    """Variable, its value here and the daemon's, where they differ; `not set` where it is not."""
    differs_because: str | None
    """Why that could not be compared."""
    drill: Mapping[str, Json] | None
    """The note of the last drill in the state folder."""
    channels: tuple[str, ...] = ()
    """The schemes of the channels that people are told by; an address is a secret."""
    unknown_secrets: tuple[str, ...] = ()
    """Secrets that the daemon was given, by their variables, and whose values this shell does not know."""
    gpu: Json
    """The daemon's newest reading of the GPUs, see `looks_signals.gpu_facts`."""


def here(loaded: Loaded, now_s: float) -> Here:
    """Gather it. Raises SettingsError where the settings name what there is not."""
    this = pod.identity(loaded.sources)
    bare = Assembly(loaded=loaded, pod=this, volume=None, save_root=None)
    state_dir = loaded.settings.state_dir
    lives = daemon_watches(state_dir)  # before what it says: one that ends in between has said so
    status = status_of(state_dir)
    running = lives and status is not None and not is_stale(status, now_s)
    told = daemon_source(state_dir).variables
    differing, because = _differing(loaded, told)
    refusal = assembly.provider(bare).refusal()
    return Here(
        loaded=loaded,
        pod=this,
        refusal=refusal,
        is_pod=refusal is None or _names_a_pod(loaded.pod_variables()),
        root=os.geteuid() == 0,
        unreadable=_unreadable(state_dir),
        keys=tuple(found_keys(loaded)),
        watched={signal.name: signal.refines for signal in assembly.signals(bare)},
        status=status,
        running=running,
        age_s=now_s - number((status or {}).get("at_s")),
        daemon_told=bool(told),
        daemon_own_key=_own_key(loaded),
        differing=differing,
        differs_because=because,
        drill=drilled.in_state_folder(state_dir),
        channels=schemes(getattr(loaded.settings, "notify", None)),
        unknown_secrets=_unknown_secrets(loaded) if running else (),
        gpu=_newest_gpus(loaded) if running else None,
    )


def _names_a_pod(variables: Mapping[str, str]) -> bool:
    return any(name.startswith(RUNPOD) for name in variables) and not any(map(variables.get, WORKER_VARIABLES))


def _unreadable(state_dir: Path) -> str | None:
    there = [path for path in (state_dir, state_dir / SETTINGS_FILE) if path.exists() and not os.access(path, os.R_OK)]
    return str(there[0]) if there else None


def _differing(loaded: Loaded, daemon: Mapping[str, str]) -> tuple[tuple[tuple[str, str, str], ...], str | None]:
    """What this shell would tell a daemon that it started, against what the daemon was told, both as it is written."""
    if not daemon:
        return (), None
    told_by = [source for source in loaded.sources if not source.name.endswith(f"/{SETTINGS_FILE}")]
    try:
        mine = settings_record(load(told_by))["variables"]
    except SettingsError as error:
        return (), str(error)
    # A variable that is missing here is no difference: in a shell over SSH all of them are.
    names = [name for name in sorted(mine) if name.startswith(PREFIX) or name in _COMPARED]
    return tuple((n, mine[n], daemon.get(n, "not set")) for n in names if mine[n] != daemon.get(n)), None


def _unknown_secrets(loaded: Loaded) -> tuple[str, ...]:
    withheld = {name for source in loaded.sources for name in source.withheld}
    known = {name for source in loaded.sources for name, value in source.variables.items() if value}
    return tuple(sorted(withheld - known))


def _own_key(loaded: Loaded) -> bool | None:
    said = drilled.read_note(loaded.settings.state_dir / SETTINGS_FILE)
    origins = mapping((said or {}).get("origins"))
    return origins["runpod_api_key"] != "default" if "runpod_api_key" in origins else None


def _newest_gpus(loaded: Loaded) -> Json:
    """What the daemon last read of the GPUs; None where it has not, or its history can't be read."""
    state_dir, newest = loaded.settings.state_dir, None
    with suppress(OSError, ValueError, TypeError, sqlite3.Error):
        for _, reading in readings_of(state_dir, max(0, newest_of(state_dir).reading - _LATEST_READINGS)):
            newest = reading if reading.signal == GpuSignal.name else newest
    return gpu_facts(newest) if newest else None


def schemes(written: object) -> tuple[str, ...]:
    """The schemes of addresses as a setting has them: `https`, `slack`; all else of an address may be a secret."""
    text = written.get_secret_value() if isinstance(written, SecretStr) else str(written or "")
    return tuple(found.lower() for found in _SCHEME.findall(text))


def child_environment(sources: Sequence[Source]) -> dict[str, str]:
    """Return this shell's own environment with all of the Pod's and of idlewatch's variables, the nearest winning."""
    own = dict(sources[0].variables)
    for source in sources[1:]:
        ours = (PREFIX, RUNPOD, "JUPYTER_")
        found = {n: v for n, v in source.variables.items() if n.startswith(ours) or n in ALSO_THE_DAEMONS}
        own |= {name: value for name, value in found.items() if not own.get(name)}
    return own
