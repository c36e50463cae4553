"""Bytes in words, everywhere the same."""

from __future__ import annotations


def amount(number: float) -> str:
    """Return bytes for people, in powers of ten: `310 bytes`, `1.2 KB`, `12 KB`, `3.4 GB`; never a rounded nothing."""
    if round(number) < 1000:
        return "1 byte" if round(number) == 1 else f"{number:.0f} bytes"
    for unit in ("KB", "MB", "GB"):
        number /= 1000
        if number < 999.95:
            return f"{number:.0f} {unit}" if unit == "KB" and number >= 9.95 else f"{number:.1f} {unit}"
    return f"{number / 1000:.1f} TB"
