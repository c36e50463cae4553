"""
Working hours: the hours of the week in which an idle Pod is given longer, in the owner's own time zone.

Written `Mon-Fri 09:00-18:00 Europe/Berlin`; several spans are separated by commas, days may be listed (`Mon,Wed` is
written `Mon Wed`), a span may pass midnight (`Fri 22:00-02:00`), the zone stands once at the end (without one: UTC).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN = re.compile(r"(?P<days>[A-Za-z][A-Za-z \-]*?)\s+(?P<begin>\d{1,2}:\d{2})\s*-\s*(?P<end>\d{1,2}:\d{2})")
_REMEDY = "write it like `Mon-Fri 09:00-18:00 Europe/Berlin`"


@dataclass(frozen=True, slots=True)
class _Span:
    days: frozenset[int]
    begin: time
    end: time
    """24:00 is midnight, written as 0:00."""

    def includes(self, local: datetime) -> bool:
        now, day = local.time(), local.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= now < self.end
        began_yesterday = (day - 1) % 7 in self.days and now < self.end
        return began_yesterday or (day in self.days and now >= self.begin)


@dataclass(frozen=True, slots=True)
class WorkingHours:
    """Spans of the week in one time zone."""

    spans: tuple[_Span, ...]
    zone: tzinfo

    def includes(self, at: datetime) -> bool:
        """Whether the aware instant `at` lies in working hours."""
        local = at.astimezone(self.zone)
        return any(span.includes(local) for span in self.spans)


def parse_working_hours(text: str) -> WorkingHours:
    """Return what `text` means. Raises ValueError with the remedy where it means nothing."""
    spans_text, zone = _zone(text.strip())
    spans = tuple(_span(part.strip()) for part in spans_text.split(","))
    return WorkingHours(spans, zone)


def with_zone(text: str) -> str:
    """The same with its zone, also where that goes without saying. Raises ValueError as `parse_working_hours`."""
    parse_working_hours(text)
    told = text.strip()
    return told if _zone(told)[0] != told else f"{told} UTC"


def _zone(text: str) -> tuple[str, tzinfo]:
    head, _, last = text.rpartition(" ")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_+\-/]*", last) or not head:
        return text, UTC
    if last.upper() == "UTC":
        return head, UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return head, ZoneInfo(last)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{last!r} is no time zone; use a name such as Europe/Berlin or UTC") from None


def _span(text: str) -> _Span:
    match = _SPAN.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no span of the week; {_REMEDY}")
    days = frozenset(day for part in match["days"].split() for day in _days(part))
    return _Span(days, _time(match["begin"]), _time(match["end"]))


def _days(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    begin = _day(first)
    end = _day(last) if dash else begin
    return [(begin + step) % 7 for step in range((end - begin) % 7 + 1)]


def _day(text: str) -> int:
    if text.lower()[:3] not in _DAYS or len(text) < 3:
        raise ValueError(f"{text!r} is no day of the week; {_REMEDY}")
    return _DAYS.index(text.lower()[:3])


def _time(text: str) -> time:
    hours, minutes = map(int, text.split(":"))
    if hours > 24 or minutes > 59 or (hours == 24 and minutes):
        raise ValueError(f"{text!r} is no time of day; write 09:00 or 18:30")
    at = timedelta(hours=hours % 24, minutes=minutes)
    return (datetime.min + at).time()  # noqa: DTZ901  (only its time of day is used)
