"""Text of others on one line of a terminal: nothing in it that would move, hide or turn what is shown."""

from __future__ import annotations

import unicodedata


def printable(line: str) -> str:
    """Return one line without control, format and surrogate characters; a reason may come from anyone in the Pod."""
    spaced = line.replace("\t", " ")
    return "".join(char for char in spaced if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})
