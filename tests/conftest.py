"""What every test can rely on: no IDLEWATCH_ or RUNPOD_ variable of the machine reaches it."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("IDLEWATCH_", "RUNPOD_", "JUPYTER_")):
            monkeypatch.delenv(name)
