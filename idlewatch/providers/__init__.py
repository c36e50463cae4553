"""
Who runs the Pod: one class each, and the literal mapping that names them.

A provider says whether the Pod may be stopped from inside, reads it, and stops it. It never terminates one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from idlewatch.providers.runpod import RunpodProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from idlewatch.model import Provider

PROVIDERS: Mapping[str, Callable[..., Provider]] = {
    "runpod": RunpodProvider,
}
"""Name, as in IDLEWATCH_PROVIDER, to what makes one; each takes its own keywords."""
