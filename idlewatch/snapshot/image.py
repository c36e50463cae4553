"""
What the image held: the names, kinds, owners, sizes and times of all that is older than this container.

Taken once after the start, it tells three things that a ctime scan can't: what has been deleted, which folders of
the image were renamed (an overlay with `redirect_dir=on` leaves the ctimes below them alone), and, as a fingerprint,
whether a restore stands before the same image. A copy lies beside the snapshots, for a restore over another image.

A changed entry has a ctime after the birth of the container, so it is not taken for the image's: taken late, the
list is shorter, never wrong. Folders count by what is in them: the runtime itself touches some of each image's.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from idlewatch.errors import SnapshotError
from idlewatch.snapshot.codec import packed, unpacked
from idlewatch.snapshot.excludes import NEVER_RESTORED
from idlewatch.snapshot.given import json_of
from idlewatch.snapshot.kinds import BLOCK, CHAR, FIFO, FILE, FOLDER, KINDS, SOCKET, SYMLINK
from idlewatch.snapshot.mounts import points_below

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from idlewatch.snapshot.mounts import Mount

FILE_NAME: Final = "image.names"
"""In the state folder; it must outlive the daemon and fall with the container."""
FORMAT: Final = 1
LATE_S: Final = 600.0
"""By then an image's own start has long ended, and what a person deleted may be missing from the list."""
_CODES: Final = {FILE: b"f", FOLDER: b"d", SYMLINK: b"l", FIFO: b"p", CHAR: b"c", BLOCK: b"b", SOCKET: b"s"}
_KINDS: Final = {code[0]: kind for kind, code in _CODES.items()}
_FOLDERS_AT_HAND: Final = 512
_MOST_BYTES: Final = 1 << 30
"""Ten million names have less."""
_NS: Final = 1_000_000_000


@dataclass(slots=True, kw_only=True)
class Image:
    """The entries of an image; paths are relative to the root, an entry's signature is opaque but for its kind."""

    since_ns: int
    """Birth of the container, wall clock nanoseconds."""
    taken_ns: int
    fingerprint: str
    """BLAKE2b over all that is no folder; the same image gives the same one in every container, if taken early."""
    sections: dict[bytes, bytes]
    """Path of a folder to its entries, parted by NUL."""
    _at_hand: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def children(self, folder: str) -> dict[str, bytes]:
        """Return name and signature of what lies directly in a folder; nothing where the image has no such folder."""
        known = self._at_hand.get(folder)
        if known is None:
            if len(self._at_hand) >= _FOLDERS_AT_HAND:
                self._at_hand.clear()
            known = self._at_hand[folder] = _parsed(self.sections.get(os.fsencode(folder), b""))
        return known

    def signature(self, path: str) -> bytes | None:
        """Return the signature of one entry; None where the image has none."""
        folder, _, name = path.rpartition("/")
        return self.children(folder).get(name)

    def below(self, path: str) -> dict[str, bytes]:
        """Return path and signature of an entry and of all below it."""
        own = self.signature(path)
        found = {} if own is None else {path: own}
        folders = [path]
        while folders:
            folder = folders.pop()
            for name, signature in self.children(folder).items():
                found[f"{folder}/{name}"] = signature
                if kind_of(signature) == FOLDER:
                    folders.append(f"{folder}/{name}")
        return found

    @property
    def late_s(self) -> float:
        """How long after the birth of the container it was taken: what was deleted before is not known."""
        return max(0.0, (self.taken_ns - self.since_ns) / _NS)


def _parsed(section: bytes) -> dict[str, bytes]:
    found = {}
    for line in section.split(b"\0") if section else ():
        signature, _, name = line.partition(b"/")
        found[os.fsdecode(name)] = signature
    return found


def kind_of(signature: bytes) -> str:
    """Return the kind of an entry."""
    return _KINDS[signature[0]]


def size_of(signature: bytes) -> int:
    """Return the bytes of an entry; 0 for a folder."""
    return int(signature.split(b" ")[3])


def sign(status: os.stat_result) -> bytes:
    """Return the signature: kind, mode, owner, group, and of what is no folder size and mtime in seconds."""
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    size, mtime = (0, 0) if kind == FOLDER else (status.st_size, status.st_mtime_ns // _NS)
    owner = b"%o %d %d" % (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    return b"%b%b %d %d" % (_CODES[kind], owner, size, mtime)


def has_content_of(status: os.stat_result, signature: bytes) -> bool:
    """Tell whether kind, size and mtime are those of a signature, whoever owns it now and whatever its mode."""
    mine = sign(status)
    return (mine[:1], mine.split(b" ")[3:]) == (signature[:1], signature.split(b" ")[3:])


class _Folder(NamedTuple):
    path: str
    lines: list[bytes]
    folders: list[tuple[str, bytes, bool]]
    """Path, line, and whether it is older than the container by its own ctime."""


def take_image(
    root: Path,
    *,
    since_ns: int,
    now_ns: int,
    mounts: Sequence[Mount],
    skip: Sequence[Path] = (),
    pause: Callable[[], None] = lambda: None,
) -> Image:
    """
    Walk `root` and return what is older than `since_ns`; a few seconds for hundreds of thousands of files.

    Mount points and `skip` are not walked. What can't be read is left out: it is then not known to be the image's.
    """
    real = os.path.realpath(root).rstrip("/")
    beside = (f"{os.path.realpath(path)}".removeprefix(real + "/") for path in skip)
    elsewhere = points_below(real or "/", mounts) | frozenset(beside) | NEVER_RESTORED
    sections = _sections(_walk(real, since_ns, elsewhere, pause))
    return Image(since_ns=since_ns, taken_ns=now_ns, fingerprint=_fingerprint(sections), sections=sections)


def _walk(real: str, since_ns: int, elsewhere: frozenset[str], pause: Callable[[], None]) -> list[_Folder]:
    """Return the folders, each before those in it."""
    walked: list[_Folder] = []
    stack = [""]
    while stack:
        pause()
        path = stack.pop()
        with suppress(OSError), os.scandir(f"{real}/{path}") as listing:
            folder = _Folder(path, [], [])
            walked.append(folder)
            _list(folder, listing, since_ns, elsewhere)
            stack += [sub for sub, _, _ in folder.folders]
    return walked


def _list(folder: _Folder, listing: os._ScandirIterator[str], since_ns: int, elsewhere: frozenset[str]) -> None:
    prefix = folder.path + "/" if folder.path else ""
    for item in listing:
        path = prefix + item.name
        if path in elsewhere:
            continue
        try:
            status = item.stat(follow_symlinks=False)
        except OSError:
            continue
        old = status.st_ctime_ns < since_ns
        line = b"%b/%b" % (sign(status), os.fsencode(item.name))
        if stat.S_ISDIR(status.st_mode):
            folder.folders.append((path, line, old))
        elif old:
            folder.lines.append(line)


def _sections(walked: list[_Folder]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    held: set[str] = set()
    for folder in reversed(walked):
        lines = folder.lines + [line for path, line, old in folder.folders if old or path in held]
        if lines:
            held.add(folder.path)
            found[os.fsencode(folder.path)] = b"\0".join(sorted(lines))
    return dict(sorted(found.items()))


def _fingerprint(sections: dict[bytes, bytes]) -> str:
    digest = blake2b(digest_size=16)
    for path, section in sections.items():
        lines = [line for line in section.split(b"\0") if line[:1] != _CODES[FOLDER]]
        if lines:
            digest.update(b"%b\0\0%b\0\0\0" % (path, b"\0".join(lines)))
    return digest.hexdigest()


def image_bytes(image: Image) -> bytes:
    """Return an image as the bytes of a file."""
    head = {"format": FORMAT, "since_ns": image.since_ns, "taken_ns": image.taken_ns, "image": image.fingerprint}
    body = b"\0\0".join(b"/%b\0%b" % (path, section) for path, section in image.sections.items())
    return packed(json.dumps(head).encode() + b"\n" + body)


def image_of(raw: bytes) -> Image:
    """Return the image of `image_bytes`. Raises SnapshotError for anything else."""
    first, newline, body = unpacked(raw, _MOST_BYTES).partition(b"\n")
    try:
        head = json_of(first)
        if not newline or head["format"] != FORMAT:
            raise SnapshotError("the list of an image's names has a format unknown to this version")
        sections = dict(_section(part) for part in body.split(b"\0\0") if part)
        image = Image(
            since_ns=int(head["since_ns"]),
            taken_ns=int(head["taken_ns"]),
            fingerprint=str(head["image"]),
            sections=sections,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError("the list of an image's names is damaged") from error
    if _fingerprint(sections) != image.fingerprint:
        raise SnapshotError("the list of an image's names is damaged: it has not its own fingerprint")
    return image


def _section(part: bytes) -> tuple[bytes, bytes]:
    path, _, lines = part.partition(b"\0")
    return path.removeprefix(b"/"), lines


def note_image(
    state_dir: Path,
    root: Path,
    *,
    since_ns: int,
    now_ns: int,
    mounts: Sequence[Mount],
    skip: Sequence[Path] = (),
    pause: Callable[[], None] = lambda: None,
) -> Image:
    """
    Return the image as it was first noted in this container; where it hasn't been, take it and note it.

    For a task at the daemon's start, before a restore. Raises SnapshotError where it can't be written.
    """
    known = known_image(state_dir, since_ns)
    if known is not None:
        return known
    image = take_image(root, since_ns=since_ns, now_ns=now_ns, mounts=mounts, skip=(*skip, state_dir), pause=pause)
    part = state_dir / f"{FILE_NAME}.part"
    try:
        part.write_bytes(image_bytes(image))
        part.rename(state_dir / FILE_NAME)
    except OSError as error:
        raise SnapshotError(f"cannot note the names of the image in {state_dir}: {error.strerror}") from error
    return image


def known_image(state_dir: Path, since_ns: int) -> Image | None:
    """Return the image noted in this container; None: not yet, or what lies there is another container's or damaged."""
    try:
        image = image_of((state_dir / FILE_NAME).read_bytes())
    except (OSError, SnapshotError):
        return None
    return image if image.since_ns == since_ns else None
