"""
Durations as people write them: `45s`, `30m`, `2h`, `1h30m`, `7d`; `0` alone is off where off makes sense.

A bare number is refused: is `30` half a minute or half an hour? A wrong guess stops a Pod in use.
"""

from __future__ import annotations

import re

_UNITS_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = r"(\d+(?:\.\d+)?)(ms|[dhms])"
_WHOLE = re.compile(rf"(?:{_PART})+")


def parse_duration(text: str) -> float:
    """Return the seconds that `text` means. Raises ValueError with the remedy where it means none."""
    written = text.strip().lower().replace(" ", "")
    if written == "0":
        return 0.0
    if not _WHOLE.fullmatch(written):
        hint = f" (a bare number has no unit: {written}m or {written}s?)" if written.isdecimal() else ""
        raise ValueError(f"{text!r} is not a duration; write 45s, 30m, 2h or 1h30m{hint}")
    parts = re.findall(_PART, written)
    units = [unit for _, unit in parts]
    if units != sorted(set(units), key=lambda unit: -_UNITS_S[unit]):
        raise ValueError(f"{text!r} is not a duration; write each unit once, the largest first: 1h30m")
    return float(sum(float(number) * _UNITS_S[unit] for number, unit in parts))


def format_duration(seconds: float) -> str:
    """Return `seconds` as people read it, two units at the most: `1h 30m`, `45s`, `2d 3h`; below 10 s with a tenth."""
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 10 and round(seconds, 1) != int(seconds):
        return f"{seconds:.1f}s"
    parts = _split(round(seconds))
    return " ".join(f"{number}{unit}" for unit, number in parts[:2] if number) or "0s"


def written_duration(seconds: float) -> str:
    """Return `seconds` as it is written in a variable, exact to the millisecond: `1h30m`, `0.2s`; 0 is `0`."""
    milliseconds = round(seconds * 1000)
    if milliseconds % 1000:
        return f"{milliseconds / 1000:.3f}".rstrip("0") + "s"
    return "".join(f"{number}{unit}" for unit, number in _split(milliseconds // 1000) if number) or "0"


def _split(seconds: int) -> list[tuple[str, int]]:
    """Whole seconds as (unit, number), from the largest unit that is not zero."""
    parts: list[tuple[str, int]] = []
    for unit in ("d", "h", "m", "s"):
        number, seconds = divmod(seconds, int(_UNITS_S[unit]))
        if number or parts:
            parts.append((unit, number))
    return parts
