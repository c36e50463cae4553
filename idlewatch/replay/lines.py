"""What is wrong with a file, by its line; and where in a scenario's text something stands."""

from __future__ import annotations

import re

from idlewatch.errors import SettingsError


class BadFile(SettingsError):
    """A file that can't be replayed: one sentence a problem, each beginning with `FILE:LINE:` where there is a line."""


def line_of(text: str, section: str, place: int = 0, key: str | None = None) -> int:
    """
    The line, from 1 on, of a key in the `place`-th `[[section]]` (or in the `[section]`), else of its header.

    `section` is empty for the top of the file. A key that is not found is told by the header's line.
    """
    lines = text.splitlines()
    begin, end = _bounds(lines, section, place)
    if key is not None:
        wanted = re.compile(rf"\s*(\[+\s*[\w.]*\.)?[\"']?{re.escape(key)}[\"']?\s*(=|\.|\])")
        for number in range(begin, end):
            if wanted.match(lines[number]):
                return number + 1
    return max(1, begin if not section else begin + 1)


def _bounds(lines: list[str], section: str, place: int) -> tuple[int, int]:
    """The first line of a section, and the line after its last one; those of its subsections are its own."""
    heads = [(number, found[1].strip()) for number, line in enumerate(lines) if (found := _HEAD.match(line))]
    if not section:
        return 0, heads[0][0] if heads else len(lines)
    own = [number for number, name in heads if name == section or (place == 0 and name.startswith(f"{section}."))]
    if place >= len(own):
        return 0, len(lines)
    begin = own[place]
    others = [number for number, name in heads if number > begin and not name.startswith(f"{section}.")]
    return begin, others[0] if others else len(lines)


_HEAD = re.compile(r"\[+([^\]]+)\]")
_TOML_LINE = re.compile(r" \(at line (\d+), column \d+\)")


def of_toml_error(said: str) -> tuple[int | None, str]:
    """The line that the parser names (None: at the end of the file), and what it says without it."""
    found = _TOML_LINE.search(said)
    return (int(found[1]) if found else None), _TOML_LINE.sub("", said)
