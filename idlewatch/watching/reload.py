"""
SIGHUP: the settings are other ones. Right ones end the daemon, and whoever keeps it alive starts it again with them.

Wrong ones are said, and the daemon goes on with those that it has: the next one would refuse them, and guard nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from idlewatch.errors import SettingsError
from idlewatch.host import envfile
from idlewatch.machine_clock import MachineClock
from idlewatch.settings import PREFIX, Source, load, pod_sources

REFUSED = "settings refused"
"""The kind of the event."""
_OF_SYSTEMD = "INVOCATION_ID"
"""Set for each start of a unit (systemd.exec(5))."""


def ends(clock: MachineClock, happened: Callable[[str, str], None], sources: Callable[[], Sequence[Source]]) -> bool:
    """Whether the daemon is to end; `sources`: where the next one would have its settings from."""
    if not clock.ended():
        return False
    if not clock.stay():  # taken back before the look: one that comes meanwhile asks for another look
        return True
    try:
        load(sources())
    except SettingsError as wrong:
        happened(REFUSED, f"{wrong}; the daemon goes on with those that it has")
        return False
    return True


def sources_of_next_start(here: Sequence[Source] | None = None, file: Path = Path(envfile.PLACE)) -> Sequence[Source]:
    """Where the next daemon has its settings from: of systemd its file anew, elsewhere the same places."""
    own, *others = here or pod_sources()
    if _OF_SYSTEMD not in own.variables:
        return [own, *others]
    kept = {name: value for name, value in own.variables.items() if not name.startswith(PREFIX)}
    return [Source(name=str(file), variables=kept | envfile.read(file)), *others]
