"""The settings themselves: each once, with its default and its documentation on the field."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from idlewatch.deciding.hours import with_zone
from idlewatch.model import Limits
from idlewatch.notify.addresses import addresses
from idlewatch.servers.named import named_servers
from idlewatch.settings.kinds import (
    AUTO,
    AbsolutePath,
    Address,
    ApiAddress,
    AutoPath,
    BoolOrAuto,
    Duration,
    DurationOrAuto,
    HttpAddress,
    Names,
    Share,
    Size,
    Span,
)
from idlewatch.snapshot.age import Key
from idlewatch.snapshot.excludes import Excludes, excludes_of
from idlewatch.snapshot.objects import object_address

PREFIX = "IDLEWATCH_"
IDLE_AFTER = timedelta(minutes=30)
VOLUME = "volume"


def _working_hours(value: str) -> str:
    return with_zone(value) if value else value


def _left_out(value: tuple[str, ...]) -> tuple[str, ...]:
    excludes_of(leave_out=value)
    return value


def _taken_back(value: tuple[str, ...]) -> tuple[str, ...]:
    excludes_of(keep=value)
    return value


def _notified(value: SecretStr) -> SecretStr:
    addresses(value.get_secret_value())
    return value


def _snapshot_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        Key(value.get_secret_value())
    return value


def _servers(value: tuple[str, ...]) -> tuple[str, ...]:
    named_servers(value)
    return value


def _save_to(value: str) -> str:
    return value if value == VOLUME else object_address(value)


class Mode(StrEnum):
    """What a decision leads to."""

    STOP = "stop"
    OBSERVE = "observe"


class OnSaveFailure(StrEnum):
    """What a failed save means for the stop."""

    KEEP = "keep"
    STOP = "stop"


class Restore(StrEnum):
    """What is brought back after a start by itself."""

    OFF = "off"
    ASK = "ask"
    AUTO = "auto"


class Settings(BaseModel):
    """
    Every `IDLEWATCH_` variable; the text under each field is its documentation everywhere.

    A plain model, handed what `load` found: in a Pod the variables lie in three places, and each must be told by its
    name. pydantic-settings would look in one of them, and its import is a fifth of a process's start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    mode: Mode = Mode.STOP
    """`stop` acts; `observe` decides and records, but warns nobody, saves nothing and stops nothing; on the volume it
    writes only the history of this boot."""
    idle_after: DurationOrAuto = IDLE_AFTER
    """Quiet time before the warning; `0`: idleness never stops the Pod; `auto`: learned from this Pod's own gaps."""
    auto_least: Span = timedelta(minutes=10)
    """With IDLEWATCH_IDLE_AFTER=auto: never wait for less."""
    auto_most: Span = timedelta(hours=2)
    """With IDLEWATCH_IDLE_AFTER=auto: never wait for more."""
    restart_takes: Span = timedelta(minutes=10)
    """What a stop too early costs, for `auto`: until the Pod is up again and everything is loaded."""
    restart_unlucky: Share = 0.05
    """For `auto`: the chance that a restart gets no GPU, which is counted as an hour lost; `5%` or `0.05`."""
    person_usd_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    """For `auto`: what an hour of the person who waits for a restart is worth, in dollars."""
    warn_for: Span = timedelta(minutes=5)
    """Time between the warning and the save; it comes on top of the quiet time."""
    blind_limit: Span = timedelta(minutes=10)
    """How long a signal may be unknown before the quiet time counted so far is forgotten."""
    connected_for: Duration = timedelta(hours=3)
    """How long a connected person who does nothing keeps the warning away; `0`: not at all."""
    ignore: Names = ()
    """Signals to leave out, by name, comma-separated: `servers`. What they would have seen is then not seen."""
    working_hours: Annotated[str, AfterValidator(_working_hours)] = ""
    """Hours in which an idle Pod is given longer: `Mon-Fri 09:00-18:00 Europe/Berlin`; without a
    zone they are UTC; empty: none."""
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
    gpu_limit: Share = 0.05
    """A GPU is in use above this utilization, `5%` or `0.05`; at most `3%` counts where a driver shows single looks."""
    gpu_gpm: bool = False
    """Ask MIG instances through NVML's GPM how busy they are; containers are often refused."""
    servers: Annotated[Names, AfterValidator(_servers)] = ()
    """Servers whose requests count although they are not found by themselves, comma-separated: `9100`,
    `NAME=9100/metrics`, `9100/metrics#COUNTER+COUNTER`, or a known one elsewhere: `gradio=7865`."""
    command: str = ""
    """A command of yours that says by its exit status whether the Pod is in use: 0 it is, 1 it is not."""
    command_every: Span = timedelta(minutes=1)
    """Time between the end of one run of IDLEWATCH_COMMAND, or one query of IDLEWATCH_PROMQL, and the next."""
    command_within: Span = timedelta(seconds=30)
    """How long one run or query may take; then its whole process tree is ended, and what it would say is unknown."""
    promql: str = ""
    """A query to your own Prometheus; the Pod is in use where one of its values is above 0."""
    prometheus_url: HttpAddress = Address("")
    """Address of that Prometheus: `http://prometheus.example:9090`; a password or a token in it is never shown."""
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
    exclude: Annotated[Names, AfterValidator(_left_out)] = ()
    """Paths and patterns that a save leaves out beside the usual ones, comma-separated: `/data/raw,*.ckpt`."""
    include: Annotated[Names, AfterValidator(_taken_back)] = ()
    """Usual rules that are taken back, as `idlewatch loss` names them: `/tmp,.cache/pip`."""
    save_every: Duration = timedelta(0)
    """While the Pod is in use, save again after so long, only what changed; `0`: only before a stop."""
    save_max_bytes: Size = 0
    """A loss above this fails the save, which then names the most; `0`: no limit. `50GB`"""
    keep_bytes: Size = 0
    """How much this Pod's snapshots may weigh together, the newest stays anyway; `0`: no limit."""
    save_to: Annotated[str, AfterValidator(_save_to)] = VOLUME
    """Where snapshots go: the `volume`, or object storage instead: `s3://BUCKET/PREFIX`, `gs://…`, `az://CONTAINER/…`,
    with its keys in the usual variables; docs/snapshots.md has them."""
    encrypt: BoolOrAuto = "auto"
    """`true` insists that snapshots are encrypted: without IDLEWATCH_SNAPSHOT_KEY the daemon does not start. `auto`
    insists on that in object storage only, `false` nowhere."""
    snapshot_key: Annotated[SecretStr | None, AfterValidator(_snapshot_key)] = None
    """A key of `age-keygen`; with it snapshots are encrypted. Keep it elsewhere: without it nothing comes back."""
    keep_snapshots: Annotated[int, Field(ge=1, le=100)] = 3
    """How many snapshots of this Pod to keep; older ones go after a newer one is proven."""
    restore: Restore = Restore.AUTO
    """After a start: `auto` brings back what the last stop wiped, where `idlewatch exec` is the container's command
    before its own begins; `ask` says at the next login and in `status` what can be had back; `off` does neither."""
    restore_within: Span = timedelta(minutes=30)
    """With IDLEWATCH_RESTORE=auto: how long that may take; then it has failed, and the Pod goes on."""
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
    notify: Annotated[SecretStr, AfterValidator(_notified)] = SecretStr("")
    """Addresses that get the notices, too, separated by commas. `https://…` gets plain JSON; all else (`slack://…`,
    `ntfy://…`, `mailto://…`) is Apprise's and needs `idlewatch[notify]`."""
    heartbeat_url: HttpAddress = Address("")
    """Address that is asked for while the daemon watches, as healthchecks.io wants it: somebody outside hears when it
    falls silent."""
    heartbeat_every: Span = timedelta(minutes=5)
    """Time between two signs of life, of the file on the volume and of that address."""
    hold_max: Span = timedelta(hours=24)
    """The longest that any hold can last."""
    confirm_within: Span = timedelta(minutes=3)
    """How long this machine may live on after an accepted stop before it is called STOP NOT CONFIRMED."""
    provider: str = "auto"
    """Who runs the Pod: `runpod`, or `auto` (RunPod's variables say so)."""
    runpod_api_key: SecretStr | None = None
    """A RunPod API key that may stop this Pod; without it the key that RunPod puts into the Pod is used."""
    runpod_api_url: ApiAddress = "https://api.runpod.io/v2"
    """REST v2 base address, for tests and proxies."""
    runpod_graphql_url: ApiAddress = "https://api.runpod.io/graphql"
    """GraphQL address, likewise."""

    def key(self) -> Key | None:
        """The key of encrypted snapshots, as far as it is known here."""
        return None if self.snapshot_key is None else Key(self.snapshot_key.get_secret_value())

    def excludes(self) -> Excludes:
        """What a save leaves out."""
        return excludes_of(leave_out=self.exclude, keep=self.include)

    @property
    def insists_on_key(self) -> bool:
        """Whether nothing may be saved in plain."""
        return self.encrypt is True or (self.encrypt == AUTO and self.save_to != VOLUME)

    @property
    def learns(self) -> bool:
        """Whether the idle limit is learned."""
        return self.idle_after == AUTO

    @property
    def idle_limit(self) -> timedelta:
        """IDLEWATCH_IDLE_AFTER as a duration; where it is learned, what holds until something is known."""
        return self.idle_after if isinstance(self.idle_after, timedelta) else IDLE_AFTER

    def limits(self) -> Limits:
        """The part that the policy needs, in seconds."""
        return Limits(
            idle_after_s=self.idle_limit.total_seconds(),
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


def secret_variables() -> frozenset[str]:
    """The names of the settings that are secrets."""
    return frozenset(variable(name) for name in Settings.model_fields if is_secret(name))


def is_secret(field: str) -> bool:
    """Whether a field is one."""
    kind = Settings.model_fields[field].annotation
    return any(isinstance(one, type) and issubclass(one, SecretStr) for one in get_args(kind) or [kind])
