"""Puts real things together from the settings, for the daemon, for its tasks and for the verbs."""

from idlewatch.assembly.account import provider
from idlewatch.assembly.acting import actions, pod_actions, started_text
from idlewatch.assembly.people import addresses_of, channels, unsendable, words
from idlewatch.assembly.sources import signals, surroundings

__all__ = [
    "actions",
    "addresses_of",
    "channels",
    "pod_actions",
    "provider",
    "signals",
    "started_text",
    "surroundings",
    "unsendable",
    "words",
]
