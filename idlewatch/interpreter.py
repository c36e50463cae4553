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
