"""`settings.json`: what the daemon was told, written down for verbs that run where the variables are missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from idlewatch.redact import MASK, is_secret_name, shown_address
from idlewatch.settings.fields import Settings, is_secret, variable
from idlewatch.settings.kinds import Address
from idlewatch.settings.loading import Loaded
from idlewatch.settings.sources import Source, first

SETTINGS_FILE = "settings.json"


def daemon_source(state_dir: Path) -> Source:
    """What the running daemon was told, but for its secrets; of those only that it has them."""
    path = state_dir / SETTINGS_FILE
    try:
        stored = json.loads(path.read_text())
        variables = {str(name): str(value) for name, value in stored["variables"].items()}
        withheld = _withheld(stored.get("origins", {}))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return Source(name=str(path), variables={})
    return Source(name=str(path), variables=variables, withheld=withheld - frozenset(variables))


def _withheld(origins: Mapping[str, object]) -> frozenset[str]:
    given = {field for field, origin in origins.items() if origin != "default"}
    return frozenset(variable(field) for field in Settings.model_fields if field in given and is_secret(field))


def verb_sources(sources: Sequence[Source]) -> tuple[Source, ...]:
    """The sources of a verb: its own environment, then what the daemon was told, then the Pod's."""
    found = first(sources, variable("state_dir"))
    state_dir = Path(found[1]) if found else Settings.model_fields["state_dir"].default
    pods = sources[1:]
    return (sources[0], _without_those_that_the_pod_tells(daemon_source(state_dir), pods), *pods)


def _without_those_that_the_pod_tells(daemon: Source, pods: Sequence[Source]) -> Source:
    """An address is written down without its password: where the Pod's variables have it whole, it comes from there."""

    def told(name: str, value: str) -> bool:
        return MASK in value and any(shown_address(pod.variables.get(name, "")) == value for pod in pods)

    return replace(daemon, variables={n: value for n, value in daemon.variables.items() if not told(n, value)})


def settings_record(loaded: Loaded) -> dict[str, dict[str, str]]:
    """What `settings.json` holds: every variable that was set but secrets, and of an address only where it leads."""
    given = {variable(field): loaded.shown(field) for field in loaded.origins if _is_written_down(field, loaded)}
    pod = {name: value for name, value in loaded.pod_variables().items() if not _may_be_secret(name)}
    return {"variables": given | pod, "origins": dict(loaded.origins)}


def _is_written_down(field: str, loaded: Loaded) -> bool:
    value = getattr(loaded.settings, field)
    return loaded.origins[field] != "default" and (isinstance(value, Address) or not is_secret(field))


def _may_be_secret(name: str) -> bool:
    return is_secret_name(name) or "KEY" in name or "SECRET" in name
