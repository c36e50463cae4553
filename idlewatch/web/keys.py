"""
The page's secrets: the token of the login link, one that reads `/metrics` and nothing else, and the key that signs.

Each is a file of the state folder's `web/` that only its owner can read. The state folder is wiped by a stop, so links
and sessions never outlive this start of the Pod.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from idlewatch.errors import Refused

FOLDER = "web"
METRICS_FILE = "metrics-token"
"""For `credentials_file` of a Prometheus."""
_BYTES = 32
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Keys:
    """All of them; none is ever shown by a repr."""

    token: str = field(repr=False)
    metrics: str = field(repr=False)
    key: bytes = field(repr=False)

    def signature(self, purpose: str, *parts: str) -> str:
        """Return what proves that we said `parts` for this purpose: 256 bits in hex."""
        words = [purpose, *parts]
        message = "".join(f"{len(word)}:{word}" for word in words)  # with lengths: no two lists give one message
        return hmac.new(self.key, message.encode(), hashlib.sha256).hexdigest()


def keys_of(state_dir: Path) -> Keys:
    """Return the secrets, made where there are none yet. Raises Refused where they can't be kept for us alone."""
    folder = folder_of(state_dir)
    return Keys(
        token=_secret(folder / "token"),
        metrics=_secret(folder / METRICS_FILE),
        key=_secret(folder / "key").encode(),
    )


def new_token(state_dir: Path) -> Keys:
    """Make another token: the old link and every session end, links in notices stay."""
    (folder_of(state_dir) / "token").unlink(missing_ok=True)
    return keys_of(state_dir)


class KeysNow:
    """The secrets as they lie there now, read again only where the token's file is another one."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._read: tuple[object, Keys] | None = None

    def __call__(self) -> Keys:
        """Return them. Raises Refused as `keys_of` does."""
        seen = self._seen()
        if self._read is None or seen is None or seen != self._read[0]:
            keys = keys_of(self._state_dir)
            self._read = (self._seen(), keys)
        return self._read[1]

    def _seen(self) -> object:
        try:
            found = (self._state_dir / FOLDER / "token").stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def folder_of(state_dir: Path) -> Path:
    """Return the folder of what the page keeps, closed to others. Raises Refused where it can't be made."""
    folder = state_dir / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise Refused(f"{folder} belongs to somebody else; remove it")
        folder.chmod(0o700)
    except OSError as error:
        raise Refused(f"can't keep the page's secrets in {folder}: {error.strerror}; run this as root") from error
    return folder


def _secret(path: Path) -> str:
    try:
        return _read(path)
    except FileNotFoundError:
        _make(path)
        return _read(path)


def _make(path: Path) -> None:
    """Whole or not at all, and never over another's: two processes that start together agree on one secret."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(_BYTES))
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def _read(path: Path) -> str:
    """Raises FileNotFoundError where there is none, Refused where it is no secret any more."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}; run this as root, or remove it") from error
    with os.fdopen(descriptor) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077 or found.st_uid != os.geteuid():
            raise Refused(f"{path} is open to others, so it is no secret; remove it, and a new one is made")
        text = file.read(_LONGEST)
    if len(text) < _BYTES:
        raise Refused(f"{path} is damaged; remove it, and a new one is made")
    return text
