"""
The one reader of the environment: every setting, its default and its documentation, once, on the field.

A Pod hands its variables to PID 1 only; a shell over SSH has none of them. So they are looked for in this
process's own environment, then in PID 1's, then in the file that RunPod's start script leaves
(`/etc/rp_environment`), and `idlewatch settings` shows which of them each value came from.
Nothing else in idlewatch touches `os.environ`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from idlewatch.durations import parse_duration, written_duration
from idlewatch.errors import SettingsError
from idlewatch.hours import parse_working_hours
from idlewatch.model import Limits
from idlewatch.servers.named import named_servers

PREFIX = "IDLEWATCH_"
_NOT_SETTINGS = frozenset(
    f"IDLEWATCH_{name}" for name in ("DRILL", "STAGE", "REASON", "CAUSE", "SNAPSHOT", "DEADLINE_S")
)
"""Variables with our prefix that idlewatch sets for the programs it starts."""


def _duration(value: object) -> object:
    return timedelta(seconds=parse_duration(value)) if isinstance(value, str) else value


def _names(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _not_zero(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("0 would mean at once, which this setting can't be; write a duration such as 5m")
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"{str(value)!r} is not an absolute path; write it from / on")
    return value


def _auto_or_path(value: str) -> str:
    if value != "auto":
        _absolute(Path(value))
    return value


def _working_hours(value: str) -> str:
    if value:
        parse_working_hours(value)
    return value


def _servers(value: tuple[str, ...]) -> tuple[str, ...]:
    named_servers(value)
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""`0` means off."""
Span = Annotated[Duration, AfterValidator(_not_zero)]
"""A duration that can't be off."""
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
AutoPath = Annotated[str, AfterValidator(_auto_or_path)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class Mode(StrEnum):
    """What a decision leads to."""

    STOP = "stop"
    OBSERVE = "observe"


class OnSaveFailure(StrEnum):
    """What a failed save means for the stop."""

    KEEP = "keep"
    STOP = "stop"


class Settings(BaseSettings):
    """Every `IDLEWATCH_` variable; the text under each field is its documentation everywhere."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mode: Mode = Mode.STOP
    """`stop` acts; `observe` decides and records, but warns nobody, saves nothing and stops nothing."""
    idle_after: Duration = timedelta(minutes=30)
    """Quiet time before the warning; `0`: idleness never stops the Pod."""
    warn_for: Span = timedelta(minutes=5)
    """Time between the warning and the save; it comes on top of the quiet time."""
    blind_limit: Span = timedelta(minutes=10)
    """How long a signal may be unknown before the quiet time counted so far is forgotten."""
    connected_for: Duration = timedelta(hours=3)
    """How long a connected person who does nothing keeps the warning away; `0`: not at all."""
    ignore: Names = ()
    """Signals to leave out, by name, comma-separated: `servers`. What they would have seen is then not seen."""
    working_hours: Annotated[str, AfterValidator(_working_hours)] = ""
    """Hours in which an idle Pod is given longer: `Mon-Fri 09:00-18:00 Europe/Berlin`; empty: none."""
    working_idle_after: Duration = timedelta(hours=2)
    """Quiet time before the warning within working hours; `0`: idleness never stops the Pod in them."""
    boot_grace: Duration = timedelta(minutes=15)
    """No warning before this much uptime; it overlaps the quiet time."""
    interval: Span = timedelta(seconds=5)
    """Time between two looks at everything."""
    signals: Names = ("auto",)
    """Which signals to watch, by name, comma-separated; `auto` takes all that apply here."""
    jupyter_token: SecretStr | None = None
    """Token of a Jupyter server that its own files do not tell; RunPod's JUPYTER_PASSWORD is tried without this."""
    gpu_gpm: bool = False
    """Ask MIG instances through NVML's GPM how busy they are; containers are often refused."""
    servers: Annotated[Names, AfterValidator(_servers)] = ()
    """Servers whose requests count although they are not found by themselves, comma-separated: `9100`,
    `NAME=9100/metrics`, `9100/metrics#COUNTER+COUNTER`, or a known one elsewhere: `gradio=7865`."""
    command: str = ""
    """A command of yours that says by its exit status whether the Pod is in use: 0 it is, 1 it is not."""
    command_every: Span = timedelta(minutes=1)
    """Time between the end of one run of IDLEWATCH_COMMAND and the next."""
    command_within: Span = timedelta(seconds=30)
    """How long one run may take; then its whole process tree is ended, and what it would have said is unknown."""
    promql: str = ""
    """A query to your own Prometheus; the Pod is in use where one of its values is above 0."""
    prometheus_url: str = ""
    """Address of that Prometheus: `http://prometheus.example:9090`."""
    extra_signals: Names = ()
    """Signals of your own in Python, comma-separated: `package.module:factory`; see docs/signals.md."""
    max_uptime: Duration = timedelta(0)
    """Hard ceiling: the Pod is saved and stopped at this uptime, in use or not; `0`: no ceiling."""
    budget_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Hard ceiling: the Pod is saved and stopped when this start of it has cost so many dollars; `0`: none."""
    usd_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """The Pod's price in dollars an hour; `0`: as RunPod's API tells it."""
    volume: AutoPath = "auto"
    """Folder on the storage that survives a stop; `auto`: the Pod's volume, where one is really mounted."""
    save_root: AutoPath = "auto"
    """The file system that a stop wipes: `auto` is `/` in a container and nothing on a machine that keeps its disk."""
    state_dir: AbsolutePath = Path("/run/idlewatch")
    """Status, holds, requests and the history of this boot; must not lie on the volume."""
    on_save_failure: OnSaveFailure = OnSaveFailure.KEEP
    """`keep` the Pod up, alarmed, when what a stop would wipe can't be saved; `stop` loses it."""
    keep_snapshots: Annotated[int, Field(ge=1, le=100)] = 3
    """How many snapshots of this Pod to keep on the volume; older ones go after a newer one is proven."""
    hooks: AbsolutePath = Path("/etc/idlewatch/hooks")
    """Folder with your own executables in `before-save/`, `after-save/`, `before-stop/`, `after-start/`."""
    hooks_on_volume: bool = False
    """Run hooks although they lie on the volume, where other Pods may write; IDLEWATCH_HOOKS must name that folder."""
    hook_within: Span = timedelta(minutes=2)
    """How long one hook may take; then its whole process tree is ended, and it has failed."""
    checkpoint_within: Span = timedelta(minutes=2)
    """How long programs that asked for it get to write a checkpoint before the save; in an idle Pod at most
    IDLEWATCH_BLIND_LIMIT less 70s, because that time is not seen to be quiet."""
    end_jobs: Names = ()
    """Programs that get a SIGTERM before the save of a ceiling or of `idlewatch stop`, by name: `train.py,llama-*`."""
    end_jobs_within: Span = timedelta(minutes=2)
    """How long those, and programs that registered, get to end; torchrun's workers alone need 35s."""
    shutdown_within: Span = timedelta(seconds=8)
    """When the container is being ended from outside: how long the note and the `before-stop` hooks get together."""
    hold_max: Span = timedelta(hours=24)
    """The longest that any hold can last."""
    confirm_within: Span = timedelta(minutes=3)
    """How long this machine may live on after an accepted stop before it is called STOP NOT CONFIRMED."""
    provider: str = "auto"
    """Who runs the Pod: `runpod`, or `auto` (RunPod's variables say so)."""
    runpod_api_key: SecretStr | None = None
    """A RunPod API key that may stop this Pod; without it the key that RunPod puts into the Pod is used."""
    runpod_api_url: str = "https://api.runpod.io/v2"
    """REST v2 base address, for tests and proxies."""
    runpod_graphql_url: str = "https://api.runpod.io/graphql"
    """GraphQL address, likewise."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` found: in a Pod the variables lie in three places, and each must be told by its name."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    def limits(self) -> Limits:
        """The part that the policy needs, in seconds."""
        return Limits(
            idle_after_s=self.idle_after.total_seconds(),
            working_idle_after_s=self.working_idle_after.total_seconds(),
            warn_for_s=self.warn_for.total_seconds(),
            blind_limit_s=self.blind_limit.total_seconds(),
            connected_for_s=self.connected_for.total_seconds(),
            boot_grace_s=self.boot_grace.total_seconds(),
            interval_s=self.interval.total_seconds(),
            max_uptime_s=self.max_uptime.total_seconds(),
            budget_usd=self.budget_usd,
            stop_without_save=self.on_save_failure is OnSaveFailure.STOP,
            confirm_within_s=self.confirm_within.total_seconds(),
        )


def variable(field: str) -> str:
    """The environment variable of a field: `idle_after` is `IDLEWATCH_IDLE_AFTER`."""
    return PREFIX + field.upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place where the variables were looked for."""

    name: str
    """`environment`, `/proc/1/environ`, `/etc/rp_environment`, `settings.json`."""
    variables: Mapping[str, str] = dataclasses.field(repr=False)
    """Secrets among them, so they are in no repr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The settings, where each came from, and what the Pod's own variables say."""

    settings: Settings
    origins: Mapping[str, str]
    """Field -> name of the source, or `default`."""
    sources: Sequence[Source]
    warnings: Sequence[str] = ()
    """What is wrong and was let pass: misspelt names, for a verb that must go on all the same."""

    def pod_variable(self, name: str) -> tuple[str, str] | None:
        """Value and source of one of the platform's own variables; None where no source has it."""
        found = _first(self.sources, name)
        return (found[1], found[0]) if found else None

    def pod_variables(self) -> dict[str, str]:
        """All `RUNPOD_` variables, the nearest source first."""
        merged: dict[str, str] = {}
        for source in reversed(self.sources):
            merged |= {name: value for name, value in source.variables.items() if name.startswith("RUNPOD_")}
        return merged


def _first(sources: Sequence[Source], name: str) -> tuple[str, str] | None:
    for source in sources:
        if source.variables.get(name):
            return source.name, source.variables[name]
    return None


def load(sources: Sequence[Source], *, unknown_names_ok: bool = False) -> Loaded:
    """
    Settings from the first source that has each variable. Raises SettingsError with every problem at once.

    With `unknown_names_ok` a variable that is no setting is a warning: a misspelt name must not keep anybody from
    placing a hold.
    """
    unknown = _unknown_names(sources)
    problems = [] if unknown_names_ok else list(unknown)
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    for field in Settings.model_fields:
        found = _first(sources, variable(field))
        origins[field] = found[0] if found else "default"
        if found:
            values[field] = found[1]
    try:
        settings = Settings(**values)  # type: ignore[arg-type]  # strings are what a validator is for
    except ValidationError as error:
        raise SettingsError(problems + [_sentence(problem) for problem in error.errors()]) from None
    problems += _impossible_pairs(settings)
    if problems:
        raise SettingsError(problems)
    return Loaded(settings=settings, origins=origins, sources=tuple(sources), warnings=tuple(unknown))


def _sentence(problem: Mapping[str, Any]) -> str:
    field = str(problem["loc"][0])
    default = Settings.model_fields[field].default
    text = str(problem["msg"]).removeprefix("Value error, ")
    if "Secret" not in str(Settings.model_fields[field].annotation) and not text.startswith(repr(problem["input"])):
        text = f"{problem['input']!r} does not fit: {text}"
    return f"{variable(field)}: {text} (default: {shown(default)})"


def _unknown_names(sources: Sequence[Source]) -> list[str]:
    known = [variable(field) for field in Settings.model_fields]
    problems = []
    for name in sorted({name for source in sources for name in source.variables if name.startswith(PREFIX)}):
        if name not in known and name not in _NOT_SETTINGS:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            remedy = f"did you mean {near[0]}?" if near else "`idlewatch settings` lists them all"
            problems.append(f"{name}: there is no such setting; {remedy}")
    return problems


def _impossible_pairs(settings: Settings) -> list[str]:
    s = settings
    rules = [
        (
            s.idle_after and s.idle_after < 2 * s.interval,
            (
                f"IDLEWATCH_IDLE_AFTER={written(s.idle_after)} is shorter than two looks at IDLEWATCH_INTERVAL="
                f"{written(s.interval)}: nothing could be seen to be quiet; lengthen the one or shorten the other"
            ),
        ),
        (
            s.blind_limit < 2 * s.interval,
            (
                f"IDLEWATCH_BLIND_LIMIT={written(s.blind_limit)} is shorter than two looks at IDLEWATCH_INTERVAL="
                f"{written(s.interval)}: every look would forget the quiet time; lengthen it"
            ),
        ),
        (
            s.max_uptime and s.max_uptime <= s.warn_for,
            (
                f"IDLEWATCH_MAX_UPTIME={written(s.max_uptime)} leaves no room for IDLEWATCH_WARN_FOR="
                f"{written(s.warn_for)}; make it longer than that"
            ),
        ),
        (
            bool(s.promql) != bool(s.prometheus_url),
            "IDLEWATCH_PROMQL and IDLEWATCH_PROMETHEUS_URL go together; set both or neither",
        ),
        (
            s.volume != "auto" and _inside(Path(s.volume), s.state_dir),
            (
                f"IDLEWATCH_STATE_DIR={s.state_dir} lies on IDLEWATCH_VOLUME={s.volume}: another Pod on that "
                "volume would inherit the countdown; use a folder outside it"
            ),
        ),
        (
            s.volume != "auto" and s.save_root not in ("auto", "/") and _inside(Path(s.save_root), Path(s.volume)),
            (
                f"IDLEWATCH_VOLUME={s.volume} lies inside IDLEWATCH_SAVE_ROOT={s.save_root}, which a stop wipes; "
                "it must be storage that survives"
            ),
        ),
    ]
    return [text for broken, text in rules if broken]


def _inside(folder: Path, path: Path) -> bool:
    return path == folder or folder in path.parents


def written(value: timedelta) -> str:
    """A duration as it is written in a variable: `1h30m`."""
    return written_duration(value.total_seconds())


def shown(value: object) -> str:
    """A setting's value as it would be written in a variable; a secret only as set or not set."""
    if value is None or isinstance(value, SecretStr):
        return "not set" if value is None else "set (hidden)"
    if isinstance(value, timedelta):
        return written(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


_RP_LINE = re.compile(r'export ([A-Za-z_][A-Za-z0-9_]*)="?(.*?)"?\s*$')


def parse_environ_block(block: bytes) -> dict[str, str]:
    """The variables of a `/proc/PID/environ`: NUL-separated `NAME=value`."""
    pairs = (entry.split(b"=", 1) for entry in block.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, value in pairs}


def parse_rp_environment(text: str) -> dict[str, str]:
    """The variables of `/etc/rp_environment`: lines `export NAME="value"`, the values not escaped.

    Source: RunPod's container template, start.sh, which writes it at each start.
    """
    matches = (_RP_LINE.match(line.strip()) for line in text.splitlines())
    return {match[1]: match[2] for match in matches if match}


def pod_sources(proc: Path = Path("/proc"), rp_environment: Path = Path("/etc/rp_environment")) -> tuple[Source, ...]:
    """Own environment, PID 1's, and RunPod's file, nearest first; what can't be read is an empty source."""
    pid1 = proc / "1" / "environ"
    return (
        Source(name="environment", variables=dict(os.environ)),
        Source(name=str(pid1), variables=parse_environ_block(_bytes_or_empty(pid1))),
        Source(
            name=str(rp_environment),
            variables=parse_rp_environment(_bytes_or_empty(rp_environment).decode(errors="replace")),
        ),
    )


def secret_variables() -> frozenset[str]:
    """The names of the settings that are secrets."""
    return frozenset(
        variable(name) for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)
    )


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """Our own environment without any Pod's variables but these, for a child that acts for a simulated Pod."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "RUNPOD_"))}
    return kept | dict(variables)


def _bytes_or_empty(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


SETTINGS_FILE = "settings.json"


def daemon_source(state_dir: Path) -> Source:
    """What the running daemon was told, written down for verbs that run where the variables are missing."""
    path = state_dir / SETTINGS_FILE
    try:
        stored = json.loads(path.read_text())["variables"]
        variables = {str(name): str(value) for name, value in stored.items()}
    except (OSError, ValueError, KeyError, AttributeError):
        variables = {}
    return Source(name=str(path), variables=variables)


def verb_sources(sources: Sequence[Source]) -> tuple[Source, ...]:
    """The sources of a verb: its own environment, then what the daemon was told, then the Pod's."""
    found = _first(sources, variable("state_dir"))
    state_dir = Path(found[1]) if found else Settings.model_fields["state_dir"].default
    return (sources[0], daemon_source(state_dir), *sources[1:])


def settings_record(loaded: Loaded) -> dict[str, dict[str, str]]:
    """What `settings.json` holds: every variable that was set, except secrets."""
    given = {
        variable(field): shown(getattr(loaded.settings, field))
        for field, origin in loaded.origins.items()
        if origin != "default" and not isinstance(getattr(loaded.settings, field), SecretStr)
    }
    pod = {name: value for name, value in loaded.pod_variables().items() if "KEY" not in name and "SECRET" not in name}
    return {"variables": given | pod, "origins": dict(loaded.origins)}
