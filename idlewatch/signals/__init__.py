"""Where evidence comes from: one file a source, and the literal mapping that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from idlewatch.model import Signal
from idlewatch.signals.host import HostSignal

SIGNALS: Mapping[str, Callable[[], Signal]] = {
    "host": HostSignal,
}
"""Name, as in IDLEWATCH_SIGNALS and IDLEWATCH_IGNORE, to what makes one; the order is that of every report."""
