"""What every test can rely on: no variable of the machine or of a shell reaches it, and no property has a deadline."""

from __future__ import annotations

import logging
import os

import pytest
import structlog
from hypothesis import settings

settings.register_profile("shared", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("shared")
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))  # not every tick of every life

_OF_A_SHELL = ("PYTHON", "LC_", "XDG_", "SSH_", "TMUX", "VSCODE_")
"""A build has none of these: without them a test does at a desk what it does there."""
_OF_A_SHELL_TOO = {"SHELL", "TERM", "LANG", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "EDITOR", "DISPLAY"}
for _name in list(os.environ):
    if _name in _OF_A_SHELL_TOO or _name.startswith(_OF_A_SHELL):
        del os.environ[_name]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("IDLEWATCH_", "RUNPOD_", "JUPYTER_")):
            monkeypatch.delenv(name)
