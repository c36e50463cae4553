"""
The API keys that a stop would try: where each came from, and a mark that tells one from another.

A mark is 12 hex digits of a hash: enough to see that two keys are the same, and nothing that a key could be had from
(RunPod's keys are long random strings). The note on the volume keeps the marks of the keys that a stop was asked with.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from idlewatch.settings import Loaded

OWN, INJECTED = "IDLEWATCH_RUNPOD_API_KEY", "RUNPOD_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundKey:
    """A key and where it was found."""

    name: str
    """Its variable."""
    source: str
    """`environment`, `/proc/1/environ`, `/etc/rp_environment`."""
    secret: str = field(repr=False)

    @property
    def mark(self) -> str:
        """What tells it from another key."""
        return hashlib.sha256(f"idlewatch {self.secret}".encode()).hexdigest()[:12]

    @property
    def odd(self) -> bool:
        """Whether it has characters that no key has, so that it would not even be sent."""
        return not (self.secret.isascii() and self.secret.isprintable() and " " not in self.secret)


def found_keys(loaded: Loaded) -> list[FoundKey]:
    """Return the keys in the order in which a stop tries them, blanks around them cut off, empty ones left out."""
    own, injected = loaded.settings.runpod_api_key, loaded.pod_variable(INJECTED)
    told = [(OWN, loaded.origins["runpod_api_key"], own.get_secret_value())] if own else []
    told += [(INJECTED, injected[1], injected[0])] if injected else []
    keys = [FoundKey(name=name, source=source, secret=secret.strip()) for name, source, secret in told]
    return [key for key in keys if key.secret]


def marks(loaded: Loaded) -> list[str]:
    """Return the marks of `found_keys`, for the note that is left before a stop."""
    return [key.mark for key in found_keys(loaded)]
