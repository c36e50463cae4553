"""
The interpreter that runs this, for child processes of ours.

As isolated as we are ourselves: a PYTHONPATH that a template sets for its own programs, or a `json.py` in the folder we
were started in, must not change what guards the Pod.
"""

from __future__ import annotations

import sys


def ours(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules."""
    return [sys.executable, "-I" if sys.flags.isolated else "-P", "-m", module, *arguments]


def load_log_without_rich() -> None:
    """
    Load structlog as if rich were not there, unless either is loaded already.

    It would take rich along for the looks of tracebacks, which are not shown here: an eighth of a process's start, and
    5 MiB for as long as the daemon lives. Nothing else loses rich by this.
    """
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # what import takes for a module that is not there
    try:
        import structlog  # noqa: F401  (for those that import it later)
    finally:
        del sys.modules["rich"]
