"""What is known here to be secret, for `redact.Redactor`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from idlewatch.redact import is_secret_name, secrets_of_address
from idlewatch.settings.fields import secret_variables
from idlewatch.settings.files import with_files
from idlewatch.settings.sources import Source

_PASSWORD_IN_ADDRESS = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")


def known_secrets(sources: Sequence[Source]) -> frozenset[str]:
    """
    Everything secret among the variables of all sources: our own secrets, whatever has the name of one (`HF_TOKEN`,
    `RUNPOD_API_KEY`, `JUPYTER_PASSWORD`), passwords in addresses, and what lies in the files that are named.
    """
    return frozenset(secret for source in with_files(sources).sources for secret in _of(source.variables))


def _of(variables: Mapping[str, str]) -> Iterator[str]:
    ours = secret_variables()
    for name, value in variables.items():
        if name in ours:
            yield from _of_setting(value)
        elif is_secret_name(name) and _fits(name, value):
            yield value
        yield from _PASSWORD_IN_ADDRESS.findall(value)


def _of_setting(value: str) -> Iterator[str]:
    for one in value.split(",") if "://" in value else [value]:
        yield from secrets_of_address(one.strip()) if "://" in one else [one]


def _fits(name: str, value: str) -> bool:
    """Of variables that only their names speak for: numbers (`MAX_TOKEN`) and paths (`SSH_KEY`) are no secrets."""
    return name.startswith("JUPYTER_") or not (value.isdigit() or value.startswith("/"))
