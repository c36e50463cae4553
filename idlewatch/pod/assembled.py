"""The settings and what they mean on this machine: most parts are handed it, and look nothing up themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from idlewatch.model import PodIdentity
from idlewatch.pod import identity
from idlewatch.settings import VOLUME, Loaded, Mode, load, pod_sources
from idlewatch.snapshot import Objects, Place, places, read_mounts
from idlewatch.snapshot.objects import VARIABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The settings and what they mean on this machine."""

    loaded: Loaded
    pod: PodIdentity
    volume: Path | None
    save_root: Path | None
    objects: Objects | None = None
    """Where snapshots go instead of the volume."""
    no_volume_because: str = "no volume is mounted: a stop would lose everything on this Pod's disk"

    @property
    def pod_name(self) -> str:
        """The name under which this Pod's things lie on the volume."""
        return identity.folder_name(self.pod.pod_id)

    @property
    def place(self) -> Place | None:
        """Where snapshots go; None: nowhere."""
        return self.objects or self.volume

    @property
    def named_volume(self) -> Path | None:
        """The folder that snapshots go to because the owner named it: unlike a mount that was found it may be gone."""
        named = self.loaded.settings.volume != "auto" and self.objects is None and self.save_root is not None
        return self.volume if named else None

    @property
    def acts(self) -> bool:
        """Whether what is decided is done; else nothing outside the state folder is touched."""
        return self.loaded.settings.mode is Mode.STOP


def assembled(loaded: Loaded) -> Assembly:
    """Look where we are."""
    mounts, settings = read_mounts(), loaded.settings
    this = identity.identity(loaded.sources)
    named, objects = loaded.pod_variable(identity.POD_ID) is not None, _objects(loaded)
    root = places.save_root(settings.save_root, mounts, in_pod=named)
    kept = places.volume(settings.volume, mounts)
    if kept and root == Path("/") and not places.survives(kept, mounts):
        why = f"IDLEWATCH_VOLUME={kept} lies on the disk that a stop wipes; name a folder on a mounted volume"
        return Assembly(loaded=loaded, pod=this, volume=None, save_root=root, objects=objects, no_volume_because=why)
    return Assembly(loaded=loaded, pod=this, volume=kept, save_root=root, objects=objects)


def assembled_here() -> Assembly:
    """The same by the settings of this process. Raises SettingsError."""
    return assembled(load(pod_sources()))


def _objects(loaded: Loaded) -> Objects | None:
    """Object storage, with as much of its keys as this process can see."""
    url = loaded.settings.save_to
    if url == VOLUME:
        return None
    told = {name: loaded.pod_variable(name) for name in VARIABLES[url.partition(":")[0]]}
    options = {name: found[0] for name, found in told.items() if found}
    return Objects(url=url, options=options, lock=loaded.settings.state_dir / "save.lock")
