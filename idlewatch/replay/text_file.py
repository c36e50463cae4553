"""A text file read line by line, packed or not, that knows its line and its size for what is said of it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from idlewatch.replay.lines import BadFile

_PACKS_TO = 8
"""How many times larger a packed log is about: only for a guess at its length."""


class TextFile:
    """Opens a file, `.gz` unpacked; as an iterator it gives its lines and counts them. What goes wrong is BadFile."""

    def __init__(self, path: Path) -> None:
        """Raises BadFile where it can't be opened."""
        self.path, self.line = path, 0
        try:
            self.size = path.stat().st_size * (_PACKS_TO if path.suffix == ".gz" else 1)
            self._file: IO[str] = _opened(path)
        except OSError as error:
            raise BadFile([f"{path}: {error.strerror or error}"]) from None

    def __enter__(self) -> Self:
        """The file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        """The lines that were not read yet."""
        try:
            for line in self._file:
                self.line += 1
                yield line
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise self.wrong(f"can't be read: {getattr(error, 'strerror', None) or error}") from None

    def beginning(self, characters: int) -> str:
        """The first characters of a file that was just opened."""
        try:
            return self._file.read(characters)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise self.wrong(f"can't be read: {getattr(error, 'strerror', None) or error}") from None

    def wrong(self, said: str) -> BadFile:
        """An error at the line that was read last."""
        return BadFile([f"{self.path}:{max(1, self.line)}: {said}"])


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")
