"""
Every error that idlewatch raises on purpose.

    IdlewatchError
      SettingsError            the environment is wrong: exit 2, names the variable and the remedy
      Refused                  asked for something that must not be done here: exit 3, with the reason
      SignalError              a signal could not be read: judged UNKNOWN, never quiet
      SnapshotError            saving or restoring failed: nothing counts as saved
      ProviderError            the provider's API
        ProviderRefused        for good: bad key, no right, no such Pod, locked, cluster member
        ProviderUnavailable    for now: timeout, 408, 429, 5xx, TLS, DNS; worth trying again
      TaskError                a slow effect in a child process ended badly
"""

from __future__ import annotations


class IdlewatchError(Exception):
    """The parent of all of them; its text is one sentence for people and never holds a secret."""


class SettingsError(IdlewatchError):
    """One or more settings are wrong. `problems` has one sentence each, naming the variable and the remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Refused(IdlewatchError):
    """What was asked must not be done here; the text says why and what would help."""


class SignalError(IdlewatchError):
    """A signal could not be read."""


class SnapshotError(IdlewatchError):
    """A save or a restore failed; what it left behind does not count as saved."""


class ProviderError(IdlewatchError):
    """The provider's API did not do what was asked."""


class ProviderRefused(ProviderError):
    """The provider refused for good; trying again soon is pointless."""


class ProviderUnavailable(ProviderError):
    """The provider could not be asked or could not answer; try again after `retry_after_s` (None: own back-off)."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TaskError(IdlewatchError):
    """A child process that carried out a slow effect failed, was ended, or passed its deadline."""
