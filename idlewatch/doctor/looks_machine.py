"""
Looks at this machine through /proc, /sys, /dev and /etc: whose processes are seen, which counters there are, which
terminals are open, what starts the daemon.

In a child process, because reading /proc/PID/cmdline waits for that process's memory, which can hang.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from idlewatch.errors import IdlewatchError
from idlewatch.kernel.terminals import terminal_files
from idlewatch.model import Json
from idlewatch.pod.saving import LOGIN_SCRIPT
from idlewatch.signals import host_cgroup
from idlewatch.snapshot.mounts import read_mounts

UNIT = "idlewatch.service"
UNIT_FOLDERS = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")
"""Where systemd looks for units (systemd.unit(5)); the first ones win."""
HOOKS = ("post_start.sh", "pre_start.sh", "start.sh")
"""What RunPod's images run at each start (its container template's start.sh, which runs the other two)."""
SUPERVISED = "etc/supervisor/conf.d"


def machine(request: Json, progress: Callable[[Json], None]) -> Json:
    """
    Return what is seen; `request` has `root` (where /proc, /dev and /etc lie: `/`) and `lock`, the daemon's lock file.

    `namespace` host or own, `processes`, `others` (those of other users), `hidden` (a /proc that hides them) · `cgroup`
    · `terminals` by name · `login` (the script for login shells is there; None: no folder for it) · `systemd` (it runs
    here), `unit`, `enabled` · `starts`: files that start idlewatch · `wiped`: those a stop wipes · `daemon_pid`:
    who holds the lock, None where nobody does or it can't be seen.
    """
    asked = request if isinstance(request, dict) else {}
    root = Path(str(asked.get("root", "/")))
    said: dict[str, Json] = {}
    looks: list[tuple[str, Callable[[], dict[str, Json]]]] = [
        ("cgroup", lambda: {"cgroup": _cgroup(root)}),
        ("terminals", lambda: {"terminals": list(terminal_files(root / "dev/pts"))}),
        ("what starts the daemon", lambda: _starts(root)),
        ("the daemon's lock", lambda: {"daemon_pid": lock_holder(Path(str(asked.get("lock"))), root / "proc")}),
        ("processes", lambda: _processes(root / "proc")),
    ]
    for at, look in looks:
        progress({**said, "at": f"looking at {at}"})
        said |= look()
    return said


def _cgroup(root: Path) -> Json:
    """Version and which counters are there; `error` where it can't be found."""
    try:
        files = host_cgroup.locate(root / "proc", root / "sys")
    except (OSError, IdlewatchError) as error:
        return {"error": str(error)}
    if files is None:
        return {"version": None, "cpu": False, "disk": False, "memory": False}
    version = 2 if files.cpu.name == "cpu.stat" else 1
    return {"version": version, "cpu": True, "disk": files.disk is not None, "memory": files.memory is not None}


def _processes(proc: Path) -> dict[str, Json]:
    """Whose processes are seen. Process 2 of the first PID namespace is the kernel's kthreadd, of no other one."""
    users: list[int] = []
    for path in proc.iterdir():
        if path.name.isdecimal():
            with suppress(OSError):
                users.append(path.stat().st_uid)
    hidden = any(option in {"hidepid=1", "hidepid=2", "hidepid=invisible", "hidepid=noaccess"} for option in _options())
    first = _text(proc / "2/comm").strip() == "kthreadd"
    own = os.getuid()
    return {
        "namespace": "host" if first else "own",
        "processes": len(users),
        "others": sum(1 for user in users if user != own),
        "hidden": hidden and own != 0,
    }


def _options() -> Iterator[str]:
    for mount in read_mounts():
        if mount.point == "/proc":
            yield from mount.options


def _starts(root: Path) -> dict[str, Json]:
    """What is there to start the daemon at the next start of this Pod or machine."""
    units = [root / folder / UNIT for folder in UNIT_FOLDERS]
    unit = next((path for path in units if path.exists()), None)
    wants = [*(root / "etc/systemd/system").glob(f"*.wants/{UNIT}")]
    script = root / LOGIN_SCRIPT
    return {
        "systemd": (root / "run/systemd/system").is_dir(),
        "unit": str(unit) if unit else None,
        "enabled": bool(wants),
        "starts": [str(path) for path in _naming(root)],
        "wiped": [str(path) for path in _naming(root) if _newer_than_this_start(path)],
        "login": script.exists() if script.parent.is_dir() else None,
    }


def _naming(root: Path) -> Iterator[Path]:
    """The files run at a start in which idlewatch is named, and the container's own first process."""
    scripts = [root / name for name in HOOKS]
    with suppress(OSError):
        scripts += sorted((root / SUPERVISED).glob("*.conf"))
    for path in [*scripts, root / "proc/1/cmdline"]:
        if any("idlewatch" in line and not line.lstrip().startswith("#") for line in _text(path).splitlines()):
            yield path


def _newer_than_this_start(path: Path) -> bool:
    """Whether a file was written since the container's first process began: it is none of the image's."""
    if path.is_relative_to("/proc"):
        return False
    with suppress(OSError, psutil.Error):
        return path.stat().st_ctime > psutil.Process(1).create_time()
    return False


def lock_holder(lock: Path, proc: Path = Path("/proc")) -> int | None:
    """
    Return the process that holds a flock on a file, read off /proc/locks so that the lock itself is not touched.

    None where nobody does, or where it can't be seen: another PID namespace's locks are not listed (proc_locks(5)).
    """
    try:
        status = lock.stat()
    except OSError:
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in _text(proc / "locks").splitlines():
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == device and fields[4].isdecimal():
            return int(fields[4]) or None
    return None


def _text(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
