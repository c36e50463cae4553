"""The places where the variables lie: this process's environment, PID 1's, and the file of RunPod's start script."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from idlewatch.settings.fields import PREFIX

_RP_LINE = re.compile(r'export ([A-Za-z_][A-Za-z0-9_]*)="?(.*?)"?\s*$')


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place where the variables were looked for."""

    name: str
    """`environment`, `/proc/1/environ`, `/etc/rp_environment`, `settings.json`."""
    variables: Mapping[str, str] = field(repr=False)
    """Secrets among them, so they are in no repr."""
    withheld: frozenset[str] = frozenset()
    """Variables that are set there and whose values are not told: secrets of the daemon's."""


def first(sources: Sequence[Source], name: str) -> tuple[str, str] | None:
    """Name of the source and value of a variable, from the nearest source that has it; an empty value is none."""
    for source in sources:
        if source.variables.get(name):
            return source.name, source.variables[name]
    return None


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


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """Our own environment without any Pod's variables but these, for a child that acts for a simulated Pod."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "RUNPOD_"))}
    return kept | dict(variables)


def _bytes_or_empty(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
