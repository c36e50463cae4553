"""
The text formats of Prometheus (0.0.4, and the quoted names of 1.0) and OpenMetrics 1.0, as far as counting needs them.

A page is whole or an error: a line that is no metric, a last line without its end, text after `# EOF`, or too much of
it is a SignalError that tells the line's number and never its text, which may hold secrets.

Sources: prometheus.io/docs/instrumenting/exposition_formats; the OpenMetrics specification, sections 4 and 5.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from idlewatch.errors import SignalError

LIMIT_BYTES = 4 << 20
_LINES_MAX = 200_000
_LINE_CHARACTERS_MAX = 64 * 1024

# Possessive characters: what a server shows must not be able to make this slow. Groups are not, because Python 3.11.2
# matches possessive groups wrongly (python/cpython#106052).
_SPACE = r"[ \t]*+"
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_QUOTED = r'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*"'
_LABEL = rf"(?:[a-zA-Z_][a-zA-Z0-9_]*+|{_QUOTED}){_SPACE}={_SPACE}{_QUOTED}"
_LABELS = rf"(?:{_LABEL}(?:{_SPACE},{_SPACE}{_LABEL})*(?:{_SPACE},)?)?"
_NUMBER = r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?|[+-]?[iI][nN][fF](?:inity)?|[nN][aA][nN]"
_STAMP = r"[+-]?\d++(?:\.\d++)?(?:[eE][+-]?\d++)?"
_SAMPLE = re.compile(
    rf"{_SPACE}(?:(?P<name>{_NAME})(?:{_SPACE}\{{{_SPACE}(?P<labels>{_LABELS}){_SPACE}\}}{_SPACE}|[ \t]++)"
    rf"|\{{{_SPACE}(?P<quoted>{_QUOTED})(?:{_SPACE},{_SPACE}(?P<more>{_LABELS}))?{_SPACE}\}}{_SPACE})"
    rf"(?P<value>{_NUMBER})(?:[ \t]++{_STAMP})?(?:[ \t]++#[ \t].*+)?{_SPACE}"
)
_ONE_LABEL = re.compile(rf"(?P<key>[a-zA-Z_][a-zA-Z0-9_]*+|{_QUOTED}){_SPACE}={_SPACE}(?P<value>{_QUOTED})")
_TYPE = re.compile(rf"#[ \t]++TYPE[ \t]++(?P<name>{_NAME}|{_QUOTED})[ \t]++(?P<type>[a-z]++){_SPACE}")
_ESCAPE = re.compile(r"\\(.)")
_EOF = "# EOF"


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: a value and its labels as they were written."""

    value: float
    written_labels: str = ""

    def labels(self) -> dict[str, str]:
        """Return the labels, their escapes undone."""
        found = _ONE_LABEL.finditer(self.written_labels)
        return {_unquoted(each["key"]): _unquoted(each["value"]) for each in found}


@dataclass(frozen=True, slots=True)
class Page:
    """What one answer says. Names are kept with `_` for `:`, because builds differ in nothing else."""

    samples: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    """Name -> `counter`, `gauge` …; a name that was declared need not have a sample yet."""

    def total(self, name: str) -> float | None:
        """
        Return the sum of all samples of this name, 0 where it is declared and has none, None where it is not there.

        The `_total` of a counter is optional. Raises SignalError where the sum is no number.
        """
        for key in _spellings(name):
            if key in self.samples:
                return summed(name, (sample.value for sample in self.samples[key]))
        return 0.0 if any(key in self.types for key in _spellings(name)) else None

    def has_prefix(self, prefix: str) -> bool:
        """Whether any sample's name begins so."""
        return any(name.startswith(prefix.replace(":", "_")) for name in self.samples)

    def has_only_prefix(self, prefix: str) -> bool:
        """Whether every sample's name begins so; true of a page without samples."""
        return all(name.startswith(prefix.replace(":", "_")) for name in self.samples)


def summed(name: str, values: Iterable[float]) -> float:
    """Return the sum. Raises SignalError where it is no number."""
    total = math.fsum(values)
    if not math.isfinite(total):
        raise SignalError(f"its {name} is no number")
    return total


def parse(body: bytes) -> Page:
    """Return what the text says. Raises SignalError where it is not whole or not of that format."""
    if len(body) > LIMIT_BYTES:
        raise SignalError(f"shows more than {LIMIT_BYTES} bytes of metrics")
    text = _decoded(body)
    lines = text.split("\n")
    if lines.pop():
        raise SignalError("its metrics end in the middle of a line")
    if len(lines) > _LINES_MAX:
        raise SignalError(f"shows more than {_LINES_MAX} lines of metrics")
    return _page(lines)


def _decoded(body: bytes) -> str:
    try:
        text = body.decode("utf-8-sig")
        if text.startswith('"'):  # llama.cpp b7010 to b7100 sent the page as one JSON string (ggml-org/llama.cpp#17384)
            text = json.loads(text)
    except ValueError:
        raise SignalError("its metrics are no text") from None
    return str(text).replace("\r\n", "\n")


def _page(lines: list[str]) -> Page:
    samples: dict[str, list[Sample]] = {}
    types: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            if line.rstrip() == _EOF:
                _nothing_after(lines, number)
                break
            _take_type(line, types)
        elif line.strip():
            _take_sample(line, number, samples)
    return Page({name: tuple(found) for name, found in samples.items()}, types)


def _take_sample(line: str, number: int, samples: dict[str, list[Sample]]) -> None:
    found = _SAMPLE.fullmatch(line) if len(line) <= _LINE_CHARACTERS_MAX else None
    if found is None:
        raise SignalError(f"line {number} of its metrics is no metric")
    name = found["name"] or _unquoted(found["quoted"])
    written = found["labels"] or found["more"] or ""
    samples.setdefault(name.replace(":", "_"), []).append(Sample(float(found["value"]), written))


def _take_type(line: str, types: dict[str, str]) -> None:
    found = _TYPE.fullmatch(line)
    if found is not None:
        types[_unquoted(found["name"]).replace(":", "_")] = found["type"]


def _nothing_after(lines: list[str], number: int) -> None:
    if any(line.strip() for line in lines[number:]):
        raise SignalError(f"its metrics go on after their end in line {number}")


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else str(found[1]), text[1:-1])


def _spellings(name: str) -> tuple[str, str]:
    written = name.replace(":", "_")
    return written, written.removesuffix("_total") if written.endswith("_total") else f"{written}_total"
