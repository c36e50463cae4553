"""What whoever may write the volume has given us: read so that nothing odd in it gets further than here."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import Any


def json_of(text: bytes | str) -> Any:
    """Return what JSON says. Raises ValueError for anything else, also where it is nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def is_path(text: Any) -> bool:
    """Tell whether the kernel could be asked for such a path."""
    if not isinstance(text, str) or "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def is_instant(text: str) -> bool:
    """Tell whether it is an instant as manifests have them: ISO 8601, with what it differs from UTC, since 1970."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return False
    return instant.tzinfo is not None and 1970 <= instant.year < 9999


def shown(path: str, *, keep: str = "") -> str:
    """Return a path that can be printed: what is no text is escaped, and what would steer a terminal, but `keep`."""
    return path if path.isprintable() else "".join(char if char in keep else _shown_char(char) for char in path)


def _shown_char(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(char)[1:-1]
