"""What a setting may be: durations, names, paths and addresses as a variable has them, and how each is shown."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from idlewatch.durations import parse_duration, written_duration
from idlewatch.redact import is_secret_name, shown_address


def _duration(value: object) -> object:
    return timedelta(seconds=parse_duration(value)) if isinstance(value, str) else value


def _duration_or_auto(value: object) -> object:
    return value if value == AUTO else _duration(value)


def _bool_or_auto(value: object) -> object:
    """Raises ValueError in words: of a union each member would complain by itself."""
    if isinstance(value, bool) or value == AUTO:
        return value
    word = str(value).strip().lower()
    if word not in _BOOLS:
        raise ValueError("write true, false or auto")
    return _BOOLS[word]


def _share(value: object) -> object:
    """`5%` is 0.05."""
    return float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else value


_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip())
    if not found:
        raise ValueError("this is no size; write 20GB, 500MB, or 0 for no limit")
    return round(float(found[1]) * _SIZES[found[2].lower()])


def _names(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _not_zero(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("0 would mean at once, which this setting can't be; write a duration such as 5m")
    return value


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"{str(value)!r} is not an absolute path; write it from / on")
    return value


def _auto_or_path(value: str) -> str:
    if value != "auto":
        _absolute(Path(value))
    return value


class Address(SecretStr):
    """An address that may hold a password or a key: of it only `scheme://host[:port]` is ever shown."""

    def _display(self) -> str:
        return shown_address(self._secret_value) if self._secret_value else ""


def _http(value: Address) -> Address:
    if value:
        _refuse_what_is_no_address(value.get_secret_value())
    return value


def _refuse_what_is_no_address(address: str) -> None:
    """Raises ValueError, whose text tells nothing of the address."""
    try:
        parts = urlsplit(address)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or any(char.isspace() or not char.isprintable() for char in address):
        raise ValueError("this is no address; write http://host:port or https://host")
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("an @ after the host; in a password write / as %2F, ? as %3F, # as %23 and @ as %40")


def _without_secret(value: str) -> str:
    _refuse_what_is_no_address(value)
    parts = urlsplit(value)
    if "@" in parts.netloc or any(is_secret_name(name) for name, _ in parse_qsl(parts.query)):
        raise ValueError("no password or key may stand in this address; IDLEWATCH_RUNPOD_API_KEY is for the key")
    return value


AUTO = "auto"
_BOOLS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
BoolOrAuto = Annotated[bool | Literal["auto"], BeforeValidator(_bool_or_auto)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""`0` means off."""
DurationOrAuto = Annotated[timedelta | Literal["auto"], BeforeValidator(_duration_or_auto)]
Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
"""`5%` or `0.05`."""
Span = Annotated[Duration, AfterValidator(_not_zero)]
"""A duration that can't be off."""
Size = Annotated[int, BeforeValidator(_size), Field(ge=0)]
"""Bytes; `0` means no limit."""
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
AutoPath = Annotated[str, AfterValidator(_auto_or_path)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
HttpAddress = Annotated[Address, AfterValidator(_http)]
ApiAddress = Annotated[str, AfterValidator(_without_secret)]
"""Shown in full, so it must hold no secret."""


def written(value: timedelta) -> str:
    """A duration as it is written in a variable: `1h30m`."""
    return written_duration(value.total_seconds())


def shown(value: object) -> str:
    """A setting's value as it would be written in a variable; of a secret only that it is set, of an address where."""
    if value is None or isinstance(value, SecretStr):
        if not value:
            return "not set"
        return str(value) if isinstance(value, Address) else "set (hidden)"
    if isinstance(value, timedelta):
        return written(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
