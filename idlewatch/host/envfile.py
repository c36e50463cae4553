"""
The environment file with every setting, its meaning and its default: rendered from the one source, `Settings`.

`python -m idlewatch.host.envfile` prints it. Everything in it is commented out: what is not set keeps its default,
also a later version's.
"""

from __future__ import annotations

import sys
from inspect import cleandoc
from pathlib import Path

from pydantic import SecretStr

from idlewatch.settings import Settings, shown, variable

PLACE = "/etc/idlewatch/idlewatch.env"
"""Read by systemd, of whose units it is the environment."""
_HEAD = """\
# Settings of idlewatch: take away a # and change the value; then `systemctl reload idlewatch`.
# One NAME=value a line, no `export`. Durations: 45s, 30m, 2h, 1h30m. `idlewatch settings` shows what is in force.
# It may hold a key: keep it readable by root only (chmod 600). Or a file holds the key, and its name is set here:
# IDLEWATCH_RUNPOD_API_KEY_FILE=/etc/idlewatch/key
"""


def rendered() -> str:
    """The whole file."""
    return "\n".join([_HEAD, *(_entry(name) for name in Settings.model_fields)])


def read(path: Path) -> dict[str, str]:
    """The variables that an environment file sets; none where it can't be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.strip().split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith(("#", ";")))
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def _entry(name: str) -> str:
    field = Settings.model_fields[name]
    words = [f"# {line}" for line in cleandoc(field.description or "").splitlines()]
    return "\n".join([*words, f"#{variable(name)}={_value(field.default)}", ""])


def _value(default: object) -> str:
    """As a variable would have it: empty where nothing is set."""
    return "" if default in (None, ()) or isinstance(default, SecretStr) else shown(default)


if __name__ == "__main__":
    sys.stdout.write(rendered())
