"""What an error of the operating system means to a person: what it is about, what is wrong, and what helps."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CLOSED = frozenset({errno.EACCES, errno.EPERM})
_WORDS = {
    errno.ENOENT: "{about} is not there",
    errno.ENOTDIR: "{about} lies below something that is no folder",
    errno.EISDIR: "{about} is a folder",
    errno.EROFS: "{about} lies on a file system that can only be read; name another place",
    errno.EMFILE: "{about} can't be opened, too many files are open; raise `ulimit -n`",
    errno.ENOMEM: "the memory is full; end something else and try again",
}


def meaning(error: OSError, about: str | Path | None = None) -> str:
    """One sentence, without errno and brackets. `about` is named in the place of the file that the error names."""
    named = about if about is not None else _named(error)
    number = error.errno or 0
    if number in _CLOSED and named is not None:
        return _closed(Path(named))
    if number in _FULL:
        return f"no space is left{f' for {named}' if named else ''}; free some and try again"
    what = (error.strerror or type(error).__name__).lower()
    words = _WORDS.get(number)
    if words and named is not None:
        return words.format(about=named)
    return f"{named}: {what}" if named is not None else what


def person(uid: int | None = None) -> str:
    """The name of a user, or of the one who runs this; of one without a name the number."""
    number = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def remedy(error: BaseException | None, folder: Path) -> str | None:
    """What helps against what was met below `folder`; None where nothing is known to."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL:
        return f"free some space on the disk of {folder} first"
    if number in _CLOSED:
        return _closed(folder)
    if number == errno.EROFS:
        return f"{folder} can only be read: mount it for writing, or name another place"
    return None


def _named(error: OSError) -> str | None:
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None


def _closed(path: Path) -> str:
    owner = _owner(path)
    if os.geteuid() == 0:
        return f"{path} is closed even to root: its file system, or the server behind it, allows no more"
    if owner == os.geteuid():
        return f"{path} is closed to its own user {person()}; open it with chmod u+rwX"
    others = "" if owner == 0 else f", or as {person(owner)}, whose it is"
    return f"{path} is closed to {person()}; run this as root{others}"


def _owner(path: Path) -> int:
    """Who owns the nearest part of a path that can be seen."""
    for one in (path, *path.parents):
        try:
            return one.stat().st_uid
        except OSError:
            continue
    return 0
