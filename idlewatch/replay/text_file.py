"""A text file read line by line, packed or not, that knows its line and its size for what is said of it."""

from __future__ import annotations

import gzip
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import IO, BinaryIO, Self, cast

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
        except (OSError, EOFError) as error:
            why = getattr(error, "strerror", None)  # what the packing is about has none
            raise (BadFile([f"{path}: {why}"]) if why else self._unreadable(error)) from None

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
            raise self._unreadable(error) from None

    def beginning(self, characters: int) -> str:
        """The first characters of a file that was just opened."""
        try:
            return self._file.read(characters)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None

    def wrong(self, said: str, line: int | None = None) -> BadFile:
        """An error at a line, from 1 on; without one at that which was read last."""
        return BadFile([f"{self.path}:{max(1, line or self.line)}: {said}"])

    def _unreadable(self, error: Exception) -> BadFile:
        if isinstance(error, UnicodeDecodeError):
            return self.wrong("it is no text in UTF-8, nor in UTF-16 with its mark", self.line + 1)
        return self.wrong(f"can't be read: {getattr(error, 'strerror', None) or error}")


def _opened(path: Path) -> IO[str]:
    """Opened in the encoding that its first bytes tell: on Windows `>` writes UTF-16, and editors mark UTF-8."""
    file = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115  (TextFile closes it)
    try:
        is_wide = file.peek(2)[:2] in (BOM_UTF16_LE, BOM_UTF16_BE)
    except BaseException:
        file.close()
        raise
    return TextIOWrapper(cast(BinaryIO, file), encoding="utf-16" if is_wide else "utf-8-sig")
