"""
A recording of a real Pod (`idlewatch/history/recording.py`) as a life that can be replayed.

Readings are read off the file as they are needed, since days of them do not fit into memory. Where nobody looked for
long there was no daemon; what a person held is held again, for as long as it was.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from idlewatch.errors import SettingsError
from idlewatch.history.recording import FORMAT
from idlewatch.history.store import reading_from_json
from idlewatch.history.verdicts import HOLD
from idlewatch.model import Hold, Reading
from idlewatch.replay.life import Life
from idlewatch.replay.lines import BadFile
from idlewatch.replay.plausible import refuse_reading
from idlewatch.replay.story import Story
from idlewatch.settings import Source, load

NO_DAEMON_S = 60.0
"""A longer stretch without any reading is one in which no daemon looked."""
WHOLE_S = 3 * 86400.0
"""Of what is older than this, a daemon's history keeps one reading a minute: too little to judge it anew."""
_AFTER_S = 0.001
"""A hold was still there at the last tick of its span; and the last tick is one, too: it may be that of the stop."""


def read_recording(path: Path, signals: Sequence[str]) -> Story:
    """Read a recording; `signals` are the names that can be judged. Raises BadFile naming file and line."""
    head, seen = _surveyed(path)
    if seen.first_s is None:
        raise BadFile([f"{path}:1: it has no reading"])
    from_s, notes = seen.first_s, [*seen.notes]
    if not head.whole and seen.ends_s - seen.first_s > WHOLE_S:
        from_s = seen.ends_s - WHOLE_S
        notes.append("of what is older than 3 days only one reading a minute was kept: replayed from there on")
    foreign = sorted(seen.names - set(signals))
    if foreign:
        notes.append(f"not judged, because there is no such signal here: {', '.join(foreign)}")
    return Story(
        path=path,
        id=path.name.removesuffix(".gz").removesuffix(".jsonl"),
        title=f"recording of {head.pod}",
        source=str(path),
        variables=head.variables,
        life=Life(
            started_s=seen.first_s if head.started_s is None else head.started_s,
            watched_from_s=from_s,
            ends_s=seen.ends_s + _AFTER_S,
            readings=_Readings(path, from_s),
            holds=sorted(seen.held.items(), key=lambda one: one[0]),
            asleep=[gap for gap in seen.gaps if gap[0] >= from_s],
            began_at=seen.began_at,
        ),
        signals=tuple(name for name in signals if name in seen.names),
        recorded=True,
        notes=tuple(notes),
    )


@dataclass(slots=True)
class _Seen:
    """What is in a recording, but for its readings."""

    first_s: float | None = None
    ends_s: float = 0.0
    began_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    names: set[str] = field(default_factory=set)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    held: dict[float, Hold] = field(default_factory=dict)
    """By the beginning: of two lines with the same one the span became longer."""
    notes: list[str] = field(default_factory=list)

    def take(self, said: Mapping[str, Any]) -> None:
        """Take in one line. Raises KeyError, TypeError or ValueError where it is none."""
        if "reading" in said:
            self._read(reading_from_json(said["reading"]), said.get("at"))
        elif said.get("verdict", {}).get("name") == HOLD:
            self._held(said["verdict"])

    def _read(self, reading: Reading, wall: str | None) -> None:
        refuse_reading(reading)
        if self.first_s is None:
            self.first_s = self.ends_s = reading.at_s
            if wall is not None:
                self.began_at = datetime.fromisoformat(wall) - timedelta(seconds=reading.at_s)
        if reading.at_s - self.ends_s > NO_DAEMON_S:
            self.gaps.append((self.ends_s + _AFTER_S, reading.at_s))
        self.ends_s = max(self.ends_s, reading.at_s)
        self.names.add(reading.signal)

    def _held(self, span: Mapping[str, Any]) -> None:
        who, _, reason = str(span["reason"]).partition(": ")
        until_s = float(span["to_s"]) + _AFTER_S
        from_s = float(span["from_s"])
        self.held[from_s] = Hold(id=f"recorded {from_s:g}", who=who, reason=reason, until_s=until_s)


@dataclass(frozen=True, slots=True)
class _Head:
    """The first line."""

    pod: str
    started_s: float | None
    variables: Mapping[str, str]
    whole: bool
    """No reading was thinned out."""


def _head(said: Mapping[str, Any]) -> _Head:
    """Raises ValueError, TypeError or AttributeError where it is none."""
    if said.get("recording") != FORMAT:
        raise ValueError(f'a recording begins with {{"recording": {FORMAT}, …}}; this is none, or a newer one')
    started_s, settings = said.get("started_s"), said.get("settings", {})
    variables = {str(name): str(value) for name, value in settings.items()}
    load([Source(name="the recording", variables=variables)])
    return _Head(
        pod=f"Pod {said['pod_id']}" if said.get("pod_id") else "a machine that is no Pod",
        started_s=None if started_s is None else float(started_s),
        variables=variables,
        whole=bool(said.get("whole", False)),
    )


def _surveyed(path: Path) -> tuple[_Head, _Seen]:
    head: _Head | None = None
    seen = _Seen()
    for number, said, whole in _lines(path):
        try:
            if not whole:
                seen.notes.append(f"its last line ({number}) is cut off and left out")
            elif head is None:
                head = _head(said)
            else:
                seen.take(said)
        except (KeyError, TypeError, ValueError, AttributeError, SettingsError) as error:
            raise BadFile([f"{path}:{number}: {_words(error)}"]) from None
    if head is None:
        raise BadFile([f"{path}:1: it is empty"])
    return head, seen


def _words(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


_FOREIGN = "it is no recording, no table of GPU samples and no export of Prometheus; a scenario's name ends in .toml"


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any], bool]]:
    """Number, object, and whether the line is whole. Raises BadFile."""
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, 1):
                try:
                    said = json.loads(line)
                    if not isinstance(said, dict):
                        raise TypeError("it is no object")
                except (ValueError, TypeError) as error:
                    if number == 1:
                        raise BadFile([f"{path}:1: {_FOREIGN}"]) from None
                    if not line.endswith("\n"):
                        yield number, {}, False
                        return
                    raise BadFile([f"{path}:{number}: not a line of a recording: {error}"]) from None
                yield number, said, True
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        if not number:
            raise BadFile([f"{path}:1: can't be read: {error}"]) from None
        yield number + 1, {}, False  # what wrote it died while it did
    except (OSError, UnicodeDecodeError) as error:
        why = _FOREIGN if isinstance(error, UnicodeDecodeError) and not number else getattr(error, "strerror", None)
        raise BadFile([f"{path}:{number + 1}: {why or f'can not be read: {error}'}"]) from None


def _opened(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Readings:
    """The readings of a file, from an instant on; each iteration reads it anew."""

    path: Path
    from_s: float

    def __iter__(self) -> Iterator[Reading]:
        for _, said, whole in _lines(self.path):
            if whole and "reading" in said:
                reading = reading_from_json(said["reading"])
                if reading.at_s >= self.from_s:
                    yield reading
