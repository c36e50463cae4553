"""What Debian's package database says, read as text: /var/lib/dpkg/status and, beside it, extended_states (apt(8))."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

DPKG_STATUS: Final = "var/lib/dpkg/status"
DPKG_INFO: Final = "var/lib/dpkg/info/"
_EXTENDED: Final = "var/lib/apt/extended_states"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One installed package."""

    name: str
    version: str
    disk_bytes: int
    """As the package itself says, to a KiB."""
    selection: str
    """What dpkg is to do with it: `install`, `hold`, ..."""
    automatic: bool
    """It came only because another package needs it."""


def package_of(path: str) -> str:
    """Return the package that a file in dpkg's info folder belongs to, without its architecture."""
    return path.removeprefix(DPKG_INFO).rpartition(".")[0].partition(":")[0]


def versions(root: str) -> dict[str, Installed]:
    """Return what is installed under `root` (absolute, no `/` at its end) by name; nothing where dpkg isn't."""
    automatic = {
        fields.get("Package", "") for fields in _stanzas(f"{root}/{_EXTENDED}") if fields.get("Auto-Installed") == "1"
    }
    found = {}
    for fields in _stanzas(f"{root}/{DPKG_STATUS}"):
        words, name = fields.get("Status", "").split(" "), fields.get("Package", "")
        if words[-1] != "installed" or not name:
            continue
        kib = fields.get("Installed-Size", "")
        found[name] = Installed(
            name=name,
            version=fields.get("Version", ""),
            disk_bytes=int(kib) * 1024 if kib.isdecimal() else 0,
            selection=words[0],
            automatic=name in automatic,
        )
    return found


def _stanzas(path: str) -> Iterator[dict[str, str]]:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for stanza in text.split("\n\n"):
        pairs = (line.partition(":") for line in stanza.split("\n") if line and line[0] not in " \t")
        yield {name: value.strip() for name, _, value in pairs}
