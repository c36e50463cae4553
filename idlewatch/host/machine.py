"""Where we are to be installed: the machine as `install` sees and changes it, and which kind it is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from idlewatch.errors import IdlewatchError

_COMMAND_WITHIN_S = 120.0


class Kind(StrEnum):
    """Who starts services here."""

    SYSTEMD = "systemd"
    SUPERVISORD = "supervisord"
    POD = "a RunPod image"
    WORKER = "a Serverless worker"
    UNKNOWN = "no Pod"


def run(command: Sequence[str]) -> None:
    """Run a command. Raises IdlewatchError with what it said where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise IdlewatchError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise IdlewatchError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip() or done.returncode}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine; in a test a folder stands for its disk."""

    root: Path = Path("/")
    proc: Path = Path("/proc")
    run: Callable[[Sequence[str]], None] = run

    def at(self, path: str) -> Path:
        """Where an absolute path lies."""
        return self.root / path.lstrip("/")

    def commands(self) -> Iterator[tuple[int, list[str]]]:
        """PID and command line of every process."""
        for folder in self.proc.iterdir():
            if folder.name.isdecimal():
                words = _bytes(folder / "cmdline").decode(errors="replace").split("\0")
                yield int(folder.name), words[:-1]


def kind_of(machine: Machine, variables: Mapping[str, str]) -> Kind:
    """
    Which kind of machine this is; `variables` are all that its Pod was given.

    Systemd is PID 1 where sd_booted(3) says so: by its folder in /run.
    """
    if variables.get("RUNPOD_ENDPOINT_ID") or variables.get("RUNPOD_WEBHOOK_GET_JOB"):
        return Kind.WORKER
    if not variables.get("RUNPOD_POD_ID"):
        return Kind.UNKNOWN
    if machine.at("/run/systemd/system").is_dir():
        return Kind.SYSTEMD
    if machine.at("/etc/supervisor/conf.d").is_dir() and _supervisord_runs(machine):
        return Kind.SUPERVISORD
    return Kind.POD


def _supervisord_runs(machine: Machine) -> bool:
    return any("supervisord" in {Path(word).name for word in words[:2]} for _, words in machine.commands())


def container_command(machine: Machine) -> str:
    """What the container was started with, to be started by us; RunPod's `/start.sh` where it can't be told."""
    words = _bytes(machine.proc / "1" / "cmdline").decode(errors="replace").split("\0")[:-1]
    theirs = words[words.index("--") + 1 :] if "--" in words[:2] else words
    kept = [word for word in theirs if Path(word).name != "nvidia_entrypoint.sh"]  # an entrypoint stays in the image
    plain = kept and all(set(word) <= _PLAIN for word in kept) and "idlewatch" not in " ".join(kept)
    scripts = [word for word in kept if word.endswith(".sh")]
    return " ".join(kept) if plain and scripts else "/start.sh"


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-=:+,@%")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
