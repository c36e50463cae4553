"""
What was kept of each start of this Pod: this one's in the state folder, earlier ones' as recordings on the volume.

Of a recording only verdicts, events and the first instants are read; its readings are many and of no use here.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from idlewatch.history.archive import HISTORY
from idlewatch.history.store import events_of, spans_of
from idlewatch.history.verdicts import Span
from idlewatch.report.bill import Boot

STOPPED = "stop done"
"""The event of a stop that the provider accepted."""
_WANTED = ('{"verdict"', '{"event"', '{"recording"')


def boots_of(
    state_dir: Path, folder: Path | None, *, now: datetime, now_s: float, boot_key: str, started_s: float
) -> list[Boot]:
    """
    Return all starts that something is known of, the oldest first; the last one is this one.

    `folder` is the Pod's on the volume, None where there is none; reading it blocks where the volume hangs. What
    can't be read of it is left out.
    """
    earlier = []
    for path in sorted((folder / HISTORY).glob("*.jsonl.gz")) if folder else ():
        boot = _recorded(path, boot_key)
        if boot is not None:
            earlier.append(boot)
    offset = timedelta(seconds=now_s - started_s)
    spans = [_moved(span, started_s) for span in spans_of(state_dir)]
    stopped = any(event.get("kind") == STOPPED for event in events_of(state_dir))
    return [
        *sorted(earlier, key=lambda one: one.began),
        Boot(began=now - offset, ended=now, spans=spans, stopped_by_us=stopped, started_s=started_s),
    ]


def _recorded(path: Path, this_boot: str) -> Boot | None:
    """A start as its recording has it; None where that is this one's, or tells nothing."""
    head: Mapping[str, Any] = {}
    spans: dict[tuple[str, float], Span] = {}
    zero: datetime | None = None
    stopped = False
    for said in _lines(path):
        if "recording" in said:
            head = said
            if head.get("boot_key") == this_boot:
                return None
        elif "verdict" in said:
            span = Span(**said["verdict"])
            spans[span.name, span.from_s] = span
        else:
            event = said["event"]
            zero = zero or datetime.fromisoformat(event["at"]).astimezone(UTC) - timedelta(seconds=event["at_s"])
            stopped = stopped or _is_stop(event)
    started_s = head.get("started_s")
    if not isinstance(started_s, int | float) or not spans:
        return None
    began = zero + timedelta(seconds=started_s) if zero else _began(path)
    if began is None:
        return None
    last_s = max(span.to_s for span in spans.values()) - started_s
    moved = [_moved(span, started_s) for span in spans.values()]
    return Boot(
        began=began,
        ended=began + timedelta(seconds=last_s),
        spans=moved,
        stopped_by_us=stopped,
        recording=path,
        started_s=started_s,
    )


def _is_stop(event: Mapping[str, Any]) -> bool:
    """Whether the provider accepted a stop; `observe` writes down that none was made."""
    return event.get("kind") == STOPPED and not str(event.get("text")).startswith("only observing")


def _began(path: Path) -> datetime | None:
    """When the container started, as the recording's name says."""
    try:
        return datetime.strptime(path.name.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _moved(span: Span, by_s: float) -> Span:
    return Span(
        span.name,
        span.from_s - by_s,
        span.to_s - by_s,
        span.verdict,
        span.bars,
        span.pauses,
        span.refines,
        span.reason,
    )


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines that matter; up to where the file is torn."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                if line.startswith(_WANTED):
                    yield json.loads(line)
    except (OSError, EOFError, ValueError, zlib.error):
        return
