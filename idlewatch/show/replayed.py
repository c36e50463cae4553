"""
What a replay shows: a timeline and what was decided, for people in 80 columns; and the same as JSON.

JSON, format 1: `format`, `ok` (all as expected), and `files`, a list of

    file, id, title, source     which; `recorded`: whether of a real Pod
    settings                    the variables that were set, `--set` before the file's own
    started_at, lasted_s        wall time of the container's start; seconds from it to the end
    ticks, signals              how many looks there were, of which signals
    pod                         list: from_s, to_s, state (active, held, unknown, idle), because
    verdicts                    list: signal (`hold` for holds), from_s, to_s, verdict, bars, pauses, reason
    decisions                   list: at_s, action (warn, cancel, save, stop), reason, cause, in_use_again_s (of a
                                recording's stop: when the Pod was next in use; null: not again)
    alarms                      list: at_s, name, text
    expectations                list: expected, met, found (null where it is met)
    known_wrong, notes, ok

Instants are seconds since the container's start.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from idlewatch.deciding.tick import longest_gap_s
from idlewatch.durations import format_duration
from idlewatch.model import Action, Json
from idlewatch.replay.life import IDLE, POD_STATES, Lived, Look
from idlewatch.replay.story import Story
from idlewatch.settings import PREFIX

FORMAT = 1
WIDTH = 80
_ROWS_MAX = 40
"""More states than these are told by the strongest of a stretch of time each, and how much of it that was."""
_MARGIN = 24
_SHARE_LEAST = 0.01
"""Of the looks: a state that is rarer than this is not told in one word."""
_SHARE_WHOLE = 0.95
ASLEEP = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """What the Pod was over a span; seconds since the container's start."""

    from_s: float
    to_s: float
    state: str
    because: str
    share: float = 1.0
    """How much of the span it was that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One file after its replay."""

    story: Story
    settings: dict[str, str]
    interval_s: float
    lived: Lived

    @property
    def found(self) -> list[str | None]:
        """For each expectation what is not as it must be; None where it is met."""
        return [one.unmet(self.lived, self.story.life.started_s) for one in self.story.expectations]

    @property
    def ok(self) -> bool:
        """Whether all is as expected; of a story that is known to be judged wrong, whether it still is."""
        return all(found is None for found in self.found) == (self.story.known_wrong is None)

    def after_s(self, at_s: float) -> float:
        """Seconds since the container's start."""
        return at_s - self.story.life.started_s

    def verdict(self) -> tuple[str, str]:
        """In a few words what came of it, and what decided it."""
        looks, stops = self.lived.looks, self.lived.when(Action.STOP)
        if stops:
            at_stop = next(look for look in looks if look.at_s >= stops[0])
            return f"stopped after {format_duration(self.after_s(stops[0]))}", f"{at_stop.said}; {at_stop.decisive}"
        if not looks:
            return "nobody looked", ""
        counted = Counter(look.pod for look in looks)
        state = next(one for one in POD_STATES if counted[one] >= _SHARE_LEAST * len(looks))
        newest = next(look for look in reversed(looks) if look.pod == state)
        words = newest.said if state == IDLE else newest.decisive
        return f"kept up: {state} {counted[state] / len(looks):.0%}", words

    def rows(self, most: int | None = None) -> list[Row]:
        """What the Pod was, span by span; at `most` about so many."""
        rows = self._rows(self.lived.looks)
        if most is None or len(rows) <= most:
            return rows
        step_s = (rows[-1].to_s - rows[0].from_s) / most
        return [self._with_share(row) for row in self._rows(list(_strongest(self.lived.looks, step_s)))]

    def _with_share(self, row: Row) -> Row:
        within = [look.pod for look in self.lived.looks if row.from_s <= self.after_s(look.at_s) <= row.to_s]
        return replace(row, share=within.count(row.state) / max(1, len(within)))

    def _rows(self, looks: Sequence[Look]) -> list[Row]:
        rows: list[Row] = []
        signal = ""
        for look, at_s in ((look, self.after_s(look.at_s)) for look in looks):
            same = rows and (rows[-1].state, signal) == (look.pod, _signal(look))
            if rows and self._slept(rows[-1].to_s, at_s, looks):
                rows.append(Row(rows[-1].to_s, at_s, ASLEEP, "nobody looked"))
                same = False
            signal = _signal(look)
            if same:
                rows[-1] = Row(rows[-1].from_s, at_s, look.pod, look.decisive)
            else:
                rows.append(Row(rows[-1].to_s if rows else at_s, at_s, look.pod, look.decisive))
        return rows

    def _slept(self, from_s: float, to_s: float, looks: Sequence[Look]) -> bool:
        return looks is self.lived.looks and to_s - from_s > longest_gap_s(self.interval_s)

    def again_s(self, stopped_s: float) -> float | None:
        """When a Pod that would have been stopped was next in use."""
        return self.lived.in_use_after_s(stopped_s)

    # ---------------------------------------------------------------- for people

    def lines(self) -> Iterator[str]:
        """The timeline, what was decided, what was not as expected."""
        story = self.story
        yield from textwrap.wrap(f"{story.id}: {story.title}", WIDTH, subsequent_indent="  ")
        told = [f"{name}={value}" for name, value in sorted(self.settings.items()) if name.startswith(PREFIX)]
        yield from _wrapped(
            f"{self._span()}; signals: {', '.join(story.signals)}; settings: {', '.join(told) or 'defaults'}"
        )
        for note in story.notes:
            yield from _wrapped(f"note: {note}")
        entries = [*self._states(), *self._happenings()]
        for at_s, word, text in sorted(entries, key=lambda entry: entry[0]):
            yield from _entry(self._instant(at_s), word, text)
        yield from self._expected()

    def _span(self) -> str:
        """How long it was looked at; of a recording that begins late also when, counted from the container's start."""
        looks = self.lived.looks
        if not looks:
            return f"nobody looked for {format_duration(self.after_s(self.story.life.ends_s))}"
        began_s, ended_s = self.after_s(looks[0].at_s), self.after_s(looks[-1].at_s)
        told = f"{format_duration(ended_s - began_s)} of looks"
        late = began_s > longest_gap_s(self.interval_s)
        return f"{told}, from {format_duration(began_s)} after the start on" if late else told

    def _states(self) -> Iterator[tuple[float, str, str]]:
        for row in self.rows(_ROWS_MAX):
            part = f", {row.share:.0%} of it" if row.share < _SHARE_WHOLE else ""
            yield row.from_s, row.state, f"{format_duration(row.to_s - row.from_s)}{part}: {row.because}"

    def _happenings(self) -> Iterator[tuple[float, str, str]]:
        for at_s, decision in self.lived.decisions:
            yield self.after_s(at_s), decision.action.value.upper(), decision.reason
            again_s = self.again_s(at_s) if decision.action is Action.STOP and self.story.recorded else None
            if again_s is not None:
                yield self.after_s(again_s), "AGAIN", f"in use {format_duration(again_s - at_s)} after that stop"
        for at_s, name, text in self.lived.alarms:
            yield self.after_s(at_s), "ALARM", f"{name}: {text}"

    def _instant(self, after_s: float) -> str:
        if self.story.recorded:
            life = self.story.life
            return f"{life.wall(life.started_s + after_s):%b %d %H:%M}"
        return format_duration(after_s)

    def _expected(self) -> Iterator[str]:
        story, found = self.story, self.found
        if self.lived.when(Action.STOP) == []:
            yield "  It is not stopped."
        for expected, what in zip(story.expectations, found, strict=True):
            if what is not None:
                yield from _wrapped(f"NOT MET: {expected.text}: {what}")
        if found:
            yield f"  {found.count(None)} of {len(found)} expectations met."
        if story.known_wrong is not None:
            known = "Known to be judged wrong" if self.ok else "NOT MET: it is judged right; take known_wrong out"
            yield from _wrapped(f"{known}: {story.known_wrong}")

    # ---------------------------------------------------------------- for programs

    def as_json(self) -> dict[str, Json]:
        """See the module."""
        story, life = self.story, self.story.life
        return {
            "file": str(story.path),
            "id": story.id,
            "title": story.title,
            "source": story.source,
            "recorded": story.recorded,
            "settings": {**self.settings},
            "started_at": life.wall(life.started_s).isoformat(),
            "lasted_s": self.after_s(life.ends_s),
            "ticks": len(self.lived.looks),
            "signals": [*story.signals],
            "pod": [
                {"from_s": row.from_s, "to_s": row.to_s, "state": row.state, "because": row.because}
                for row in self.rows()
                if row.state != ASLEEP
            ],
            "verdicts": self._verdicts(),
            "decisions": self._decisions(),
            "alarms": [
                {"at_s": self.after_s(at_s), "name": name, "text": text} for at_s, name, text in self.lived.alarms
            ],
            "expectations": [
                {"expected": expected.text, "met": what is None, "found": what}
                for expected, what in zip(story.expectations, self.found, strict=True)
            ],
            "known_wrong": story.known_wrong,
            "notes": [*story.notes],
            "ok": self.ok,
        }

    def _verdicts(self) -> list[Json]:
        return [
            {
                "signal": span.name,
                "from_s": self.after_s(span.from_s),
                "to_s": self.after_s(span.to_s),
                "verdict": span.verdict,
                "bars": span.bars,
                "pauses": span.pauses,
                "reason": span.reason,
            }
            for span in self.lived.spans
        ]

    def _decisions(self) -> list[Json]:
        told: list[Json] = []
        for at_s, decision in self.lived.decisions:
            again_s = self.again_s(at_s) if decision.action is Action.STOP else None
            told.append(
                {
                    "at_s": self.after_s(at_s),
                    "action": decision.action.value,
                    "reason": decision.reason,
                    "cause": decision.cause.value if decision.cause else None,
                    "in_use_again_s": None if again_s is None else self.after_s(again_s),
                }
            )
        return told


def as_json(all_of_them: Sequence[Replayed]) -> dict[str, Json]:
    """See the module."""
    return {
        "format": FORMAT,
        "ok": all(each.ok for each in all_of_them),
        "files": [each.as_json() for each in all_of_them],
    }


def table(all_of_them: Sequence[Replayed]) -> Iterator[str]:
    """One row a file: whether it is as expected, the verdict, what decided it."""
    yield f"{'row':<6}{'':<10}{'verdict':<24}what decided it"
    for each in all_of_them:
        verdict, decisive = each.verdict()
        said = "as known" if each.story.known_wrong else "right"
        mark = said if each.ok else "WRONG"
        head = f"{each.story.id[:5]:<6}{mark:<10}{verdict:<24}"
        yield from textwrap.wrap(head + decisive, WIDTH, subsequent_indent=" " * len(head)) or [head]


def _signal(look: Look) -> str:
    return look.decisive.partition(":")[0]


def _strongest(looks: Sequence[Look], step_s: float) -> Iterator[Look]:
    """Of each stretch of time the look at which the Pod was most in use, told at the stretch's end."""
    standing, end_s = looks[0], looks[0].at_s + step_s
    for look in looks:
        if look.at_s > end_s:
            yield replace(standing, at_s=end_s)
            standing, end_s = look, max(end_s + step_s, look.at_s)
        if POD_STATES.index(look.pod) <= POD_STATES.index(standing.pod):
            standing = look
    yield standing


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _entry(instant: str, word: str, text: str) -> list[str]:
    head = f"  {instant:<13}{word:<9}"
    return textwrap.wrap(head + text, WIDTH, subsequent_indent=" " * _MARGIN, drop_whitespace=True)
