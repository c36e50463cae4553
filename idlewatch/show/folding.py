"""Text in lines that fit a terminal, however narrow it is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

COLUMNS = 80
"""What is assumed where nobody says how wide the terminal is, and the most that is used of a wide one."""
NARROWEST = 40
"""What is narrower gets lines of this width: words would fall apart in it."""
_LEAST_TEXT = 20


@dataclass(frozen=True, slots=True)
class Paragraph:
    """What is told in one piece: its text, what stands before its first line and before each further one."""

    text: str
    first: str = ""
    further: str = ""
    most: int | None = None
    """So many lines at the most."""
    whole_words: bool = False
    """A word that is longer than a line stays whole: a path can be copied then."""

    def lines(self, columns: int | None = COLUMNS) -> list[str]:
        """
        Its lines of at most so many columns; None: one line, as long as it is.

        Where `further` indents so far that no text would be left beside it, further lines begin nearer to the left.
        """
        if columns is None:
            return [f"{self.first}{self.text}".rstrip()]
        width = max(NARROWEST, columns)
        return textwrap.wrap(
            self.text,
            width,
            initial_indent=self.first,
            subsequent_indent=self.further if len(self.further) + _LEAST_TEXT <= width else "    ",
            max_lines=self.most,
            placeholder=" …",
            break_on_hyphens=False,
            break_long_words=not self.whole_words,
        ) or [self.first.rstrip()]


def folded(line: str, columns: int | None = COLUMNS) -> list[str]:
    """A line as it is where it fits, else in lines that do, but for a path; further ones a little more to the right."""
    if columns is None or len(line) <= columns:
        return [line]
    text = line.lstrip(" ")
    indent = line[: len(line) - len(text)]
    return Paragraph(text, indent, f"{indent}  ", whole_words=True).lines(columns)


def drawn(told: Iterable[Paragraph], columns: int | None = COLUMNS) -> Iterator[str]:
    """The lines of all of them."""
    for one in told:
        yield from one.lines(columns)
