"""
The one reader of the environment: every setting, its default and its documentation, once, on the field.

A Pod hands its variables to PID 1 only; a shell over SSH has none of them. So they are looked for in this
process's own environment, then in PID 1's, then in the file that RunPod's start script leaves
(`/etc/rp_environment`), and `idlewatch settings` shows which of them each value came from.
Nothing else in idlewatch touches the environment, and in here only `sources` does.
"""

from idlewatch.settings.fields import PREFIX, VOLUME, Mode, OnSaveFailure, Restore, Settings, secret_variables, variable
from idlewatch.settings.files import secret_file
from idlewatch.settings.kept import SETTINGS_FILE, daemon_source, settings_record, verb_sources
from idlewatch.settings.kinds import Address, shown, written
from idlewatch.settings.loading import Loaded, load, load_what_fits
from idlewatch.settings.secrecy import known_secrets
from idlewatch.settings.sources import (
    Source,
    environment_with,
    parse_environ_block,
    parse_rp_environment,
    pod_sources,
)

__all__ = [
    "PREFIX",
    "SETTINGS_FILE",
    "VOLUME",
    "Address",
    "Loaded",
    "Mode",
    "OnSaveFailure",
    "Restore",
    "Settings",
    "Source",
    "daemon_source",
    "environment_with",
    "known_secrets",
    "load",
    "load_what_fits",
    "parse_environ_block",
    "parse_rp_environment",
    "pod_sources",
    "secret_file",
    "secret_variables",
    "settings_record",
    "shown",
    "variable",
    "verb_sources",
    "written",
]
