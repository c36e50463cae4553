"""A TOML file whose every error names its line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from idlewatch.replay.lines import BadFile, line_of, of_toml_error

Table: TypeAlias = Mapping[str, Any]
_T = TypeVar("_T")


class TomlFile:
    """One file's text and tables, and errors that name its lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadFile([f"{path}: {getattr(error, 'strerror', None) or error}"]) from None
        try:
            self.tables: dict[str, Any] = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            line, said = of_toml_error(str(error))
            raise self._bad(line or len(self.text.splitlines()), said) from None

    def _bad(self, line: int, said: str) -> BadFile:
        return BadFile([f"{self.path}:{line}: {said}"])

    def wrong(self, said: str, section: str = "", place: int = 0, key: str | None = None) -> BadFile:
        """An error at that place."""
        return self._bad(line_of(self.text, section, place, key), said)

    def understood(self, make: Callable[[], _T], section: str, place: int = 0) -> _T:
        """What `make` gives; what it raises names the line of that section, or of the key that it names first."""
        try:
            return make()
        except KeyError as missing:
            raise self.wrong(f"[{section}] has no {missing.args[0]}", section, place) from None
        except (TypeError, ValueError) as error:
            key = str(error).partition(":")[0]
            raise self.wrong(str(error), section, place, key if key.isidentifier() else None) from None

    def only(self, table: Table, known: set[str], section: str = "", place: int = 0) -> None:
        """Raise BadFile where a table has a key that means nothing."""
        for key in table:
            if key not in known:
                raise self.wrong(
                    f"{key}: there is no such key; there are: {', '.join(sorted(known))}", section, place, key
                )

    def text_of(self, key: str) -> str:
        """A text of the top of the file. Raises BadFile where there is none."""
        value = self.tables.get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(f'{key}: write a text: {key} = "…"', key=key)
        return value

    def several(self, key: str) -> list[Table]:
        """The tables `[[key]]`."""
        value = self.tables.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self.wrong(f"{key}: write each as [[{key}]]", key=key)
        return value
