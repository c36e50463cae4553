"""Bytes in words, for the sentences of errors."""

from __future__ import annotations


def amount(number: float) -> str:
    """Return bytes for people: `3.4 GB`, `512 B`; never a rounded nothing."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
