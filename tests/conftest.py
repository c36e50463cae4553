"""What every test can rely on: no variable of the machine's own Pod reaches it, and no property has a deadline."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("shared", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("IDLEWATCH_", "RUNPOD_", "JUPYTER_")):
            monkeypatch.delenv(name)
