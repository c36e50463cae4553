"""
What of a manifest only the key opens, where snapshots are encrypted: everything that names a path.

Sizes, times, and what is needed to list, to prune and to find a base stay readable, so that a lost key leaves no
folder that nobody can clear up.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.age import Key, seal, unseal
from idlewatch.snapshot.given import json_of
from idlewatch.snapshot.packed import required

if TYPE_CHECKING:
    from idlewatch.snapshot.manifest import Snapshot

_PRIVATE: Final = ("excluded", "mounts", "skipped", "sockets", "changing", "changed_after", "gone", "deleted", "notes")


def locked(snapshot: Snapshot, key: Key | None) -> Snapshot:
    """Return it as it may lie on the volume: with a key, without the paths."""
    if key is None:
        return snapshot
    values = snapshot.as_json()
    private = json.dumps({name: values[name] for name in _PRIVATE} | {"id": snapshot.id}).encode()
    empty: dict[str, Any] = dict.fromkeys(_PRIVATE, ())
    return replace(snapshot, **empty, locked=b64encode(seal(key, private)).decode())


def unlocked(snapshot: Snapshot, key: Key | None) -> Snapshot:
    """Return it with its paths. Raises SnapshotError where it is encrypted and this isn't its key."""
    if snapshot.locked is None:
        return snapshot
    try:
        private = dict(json_of(unseal(required(key, snapshot.id), b64decode(snapshot.locked, validate=True))))
    except (ValueError, TypeError) as error:
        raise SnapshotError(f"the manifest of snapshot {snapshot.id} is damaged") from error
    if private.pop("id", None) != snapshot.id:
        raise SnapshotError(f"the manifest of snapshot {snapshot.id} holds the paths of another one")
    return replace(type(snapshot).from_json({**snapshot.as_json(), **private}), shelf=snapshot.shelf)
