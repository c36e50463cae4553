"""
A restore over an image that may be another one: what that image has changed itself is told from what the Pod changed.

Three states of a path are compared: the image of the save, the image of now, and what was saved. Where both images
hold the same, the save wins. Where the image of now holds something else than the image of then, two have changed the
same thing: the image's stays, and the path is named.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from idlewatch.snapshot.dpkg import DPKG_STATUS
from idlewatch.snapshot.image import LATE_S, Image, has_content_of, kind_of, sign
from idlewatch.snapshot.kinds import FOLDER
from idlewatch.snapshot.target import InTheWayError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from idlewatch.snapshot.report import RestoreReport
    from idlewatch.snapshot.target import Target

_CHANGED: Final = "the image has changed it, too: its own stays"
_UNKNOWN: Final = "another image, whose names at the save are not known: its own stays"
_PACKAGES: Final = "of Debian packages installed over another image: install them anew (the .txt beside the archive)"
_PACKAGED: Final = ("usr/", "bin/", "sbin/", "lib/", "lib32/", "lib64/", "libx32/", "var/lib/dpkg/", "var/lib/apt/")
_PACKAGED_TOO: Final = ("etc/alternatives/", "var/cache/debconf/")
_NOT_PACKAGED: Final = ("usr/local/", "usr/src/")
_NOT_EMPTY: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The image that the save was made over, and the image that lies in the target."""

    old: Image | None
    new: Image
    same: bool
    packages_differ: bool
    """Debian's database was changed both by the Pod and by the image: its packages can't be put back file by file."""

    def conflict(self, path: str) -> str | None:
        """Return why the image's own entry stays at a path; None: what was saved may be written."""
        if self.same:
            return None
        if self.packages_differ and _is_packaged(path):
            return _PACKAGES
        now = self.new.signature(path)
        if now is None:
            return None
        if self.old is None:
            return None if kind_of(now) == FOLDER else _UNKNOWN
        before = self.old.signature(path)
        both_new_folders = before is None and kind_of(now) == FOLDER
        return None if now == before or both_new_folders else _CHANGED

    def held(self, path: str, status: os.stat_result) -> bool:
        """Tell whether what stands at a path is, by size and mtime, what one of the images held there."""
        signatures = [image.signature(path) for image in (self.new, self.old) if image is not None]
        return any(one is not None and has_content_of(status, one) for one in signatures)

    def removable(self, path: str) -> dict[str, bytes] | None:
        """Return what is to be removed with a path that had been deleted; None: the image has changed it."""
        there = self.new.below(path)
        if self.same or not there:
            return there
        return there if self.old is not None and self.old.below(path) == there else None


def _is_packaged(path: str) -> bool:
    return path.startswith((*_PACKAGED, *_PACKAGED_TOO)) and not path.startswith(_NOT_PACKAGED)


def new_images(noted: str, old: Image | None, new: Image, target: Target, *, accounted: set[str]) -> Images:
    """
    Compare two images; `noted` is the fingerprint of the old one, `accounted` what was saved, deleted or gone.

    The old one may have been taken late, when changed files no longer counted as the image's, and the new one after
    a first, interrupted restore: both are the same image where all that nobody has touched is the same.
    """
    same = noted == new.fingerprint or (old is not None and _agree(old, new, target, accounted))
    images = Images(old=old, new=new, same=same, packages_differ=False)
    differ = DPKG_STATUS in accounted and images.conflict(DPKG_STATUS) is not None
    return Images(old=old, new=new, same=same, packages_differ=differ)


def _agree(old: Image, new: Image, target: Target, accounted: set[str]) -> bool:
    """Tell whether nothing is known to differ: what both name is alike, and what one lacks is accounted for."""
    for raw in old.sections.keys() | new.sections.keys():
        if new.sections.get(raw) == old.sections.get(raw):
            continue
        folder = os.fsdecode(raw)
        then, now = old.children(folder), new.children(folder)
        for name in then.keys() | now.keys():
            path = f"{folder}/{name}" if folder else name
            if not _alike(path, then.get(name), now.get(name), target, accounted, late=old.late_s > LATE_S):
                return False
    return True


def _alike(
    path: str, then: bytes | None, now: bytes | None, target: Target, accounted: set[str], *, late: bool
) -> bool:
    if then is not None and now is not None:
        return then == now or kind_of(then) == kind_of(now) == FOLDER
    if kind_of(then or now or b"?") == FOLDER:
        return True
    if then is None:
        return late or _is_accounted(path, accounted)
    return _is_accounted(path, accounted) or _stands(target, path)


def _is_accounted(path: str, accounted: set[str]) -> bool:
    while path:
        if path in accounted:
            return True
        path = path.rpartition("/")[0]
    return False


def _stands(target: Target, path: str) -> bool:
    """Tell whether something is there: where it isn't the image's, it was changed in this very container."""
    try:
        return target.status(path) is not None
    except InTheWayError:
        return False


def remove_deleted(
    deleted: Iterable[str], images: Images, target: Target, report: RestoreReport, *, overwrite: bool
) -> None:
    """Remove what had been deleted, as far as the image of now still holds it and nobody has touched it since."""
    for path in deleted:
        there = images.new.below(path) if overwrite else images.removable(path)
        if there is None:
            report.conflicts[path] = "it had been deleted, but the image has changed it: its own stays"
            continue
        innermost_first = sorted(there, key=lambda name: (name.count("/"), name), reverse=True)
        removed = [below for below in innermost_first if _remove(below, there[below], target, report)]
        if removed and (report.dry_run or _is_free(target, path)):
            report.deleted.append(path)


def _is_free(target: Target, path: str) -> bool:
    try:
        return target.status(path) is None
    except InTheWayError:
        return True


def _remove(path: str, signature: bytes, target: Target, report: RestoreReport) -> bool:
    """Remove one entry where it is still the image's; with `dry_run` only tell so."""
    is_folder = kind_of(signature) == FOLDER
    try:
        status = target.status(path)
        if status is None or (is_folder and not stat.S_ISDIR(status.st_mode)):
            return False
        if not is_folder and sign(status) != signature:
            report.kept_newer.append(path)
            return False
        if not report.dry_run:
            target.remove(path, folder=is_folder)
    except InTheWayError:
        return False  # the way leads elsewhere now: what the image held there is hidden already
    except OSError as error:
        what = "something else lies in it" if error.errno in _NOT_EMPTY else error.strerror
        report.in_the_way[path] = f"it had been deleted, but can't be: {what}"
        return False
    return True
