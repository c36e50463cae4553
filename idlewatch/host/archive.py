"""
The tool's folder as one archive on the volume, from where a start brings it to the container's disk, which stops wipe.

`python -m idlewatch.host.archive FOLDER ARCHIVE` packs; it is a process of its own because a volume may hang for good,
and what waits for it must not. What marks the folder whole comes last: what was unpacked in part is seen to be.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

from idlewatch.errors import IdlewatchError
from idlewatch.host.machine import Machine
from idlewatch.host.running import exec_pids, in_first_session
from idlewatch.host.tree import LINK, PLACE, WHOLE

ON_VOLUME = ".idlewatch/idlewatch.tar.gz"
"""Below the volume; for all Pods that share it."""
_WITHIN_S, _ENDS_WITHIN_S = 180.0, 2.0
START = """\
bash -c 'W={place}/{whole}; [ -e $W ] || tar -C {into} -xzf {archive} & P=$!; \
for i in {{1..{tenths}}}; do kill -0 $P 2>/dev/null || break; sleep 0.1; done; \
[ -e $W ] && {place}/bin/idlewatch --version && exec {place}/bin/idlewatch exec -- {command}; exec {command}'"""
"""Goes on without the tool where the volume has not given it in time: nothing here may keep a Pod from starting."""
PASTED = START.partition("'")[0]
"""How that line begins, which people copy: it must stay one line."""


def start_line(archive: Path, command: str, *, place: str = PLACE, into: str = "/", within_s: float = 60.0) -> str:
    """The container start command that brings the tool back and starts `command` with it."""
    tenths = round(within_s * 10)
    return START.format(place=place, whole=WHOLE, into=into, archive=archive, tenths=tenths, command=command)


def brought_back(machine: Machine) -> bool:
    """Whether this container was started so that the tool comes back: by that line, or from an image with it."""
    return any(in_first_session(machine, pid) for pid in exec_pids(machine))


def keep(folder: Path, archive: Path, within_s: float = _WITHIN_S) -> int:
    """Pack a folder in a child process; return the archive's bytes. Raises IdlewatchError where it fails or hangs."""
    command = [sys.executable, "-I" if sys.flags.isolated else "-P", "-m", "idlewatch.host.archive"]
    pipe = subprocess.PIPE
    packing = subprocess.Popen([*command, str(folder), str(archive)], cwd="/", stdout=pipe, stderr=pipe, text=True)
    try:
        told, said = packing.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        _given_up(packing)
        raise IdlewatchError(f"{archive}: the volume did not take it within {within_s:.0f} s") from None
    if packing.returncode:
        raise IdlewatchError(f"{archive}: {said.strip().splitlines()[-1] if said.strip() else 'packing failed'}")
    return int(told)


def _given_up(packing: subprocess.Popen[str]) -> None:
    """What hangs in a volume may not even end when it is ended hard, so it is not waited for long."""
    packing.kill()
    with suppress(subprocess.TimeoutExpired):
        packing.wait(_ENDS_WITHIN_S)
    for stream in (packing.stdout, packing.stderr):
        if stream:
            stream.close()


def pack(folder: Path, archive: Path, name: str = PLACE.lstrip("/")) -> int:
    """Write the archive as a whole or not at all; return its bytes. Raises OSError."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    new = archive.with_name(f"{archive.name}.{os.getpid()}.new")
    try:
        with new.open("xb") as raw, tarfile.open(fileobj=raw, mode="w:gz", compresslevel=6) as packed:
            packed.add(folder, name, filter=lambda info: _taken(info, name))
            packed.addfile(_link())
            packed.add(folder / WHOLE, f"{name}/{WHOLE}")
        with new.open("rb") as written:
            os.fsync(written.fileno())
        new.rename(archive)
    finally:
        new.unlink(missing_ok=True)
    return archive.stat().st_size


def _link() -> tarfile.TarInfo:
    """The command's name in everybody's PATH: on a wiped disk there is none."""
    link = tarfile.TarInfo(LINK.lstrip("/"))
    link.type, link.linkname, link.mode = tarfile.SYMTYPE, f"{PLACE}/bin/idlewatch", 0o777
    link.uname = link.gname = "root"
    return link


def _taken(info: tarfile.TarInfo, name: str) -> tarfile.TarInfo | None:
    """Not what the interpreter has made of it here; and owned by root, whoever packs."""
    if "/__pycache__" in info.name or info.name == f"{name}/{WHOLE}":
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


if __name__ == "__main__":
    sys.stdout.write(str(pack(Path(sys.argv[1]), Path(sys.argv[2]))))
