"""
What stands side by side in `idle_cost`: idlewatch, a polling shell loop, and Debian's autosuspend.

Each runs in a folder of its own, on a Pod where nothing happens, and is made ready before the clock runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from idlewatch.settings import environment_with
from tests.nvml_stub import SOURCE

GPUS = 8
INSTALL_WITHIN_S = 300.0
NOWHERE = "http://127.0.0.1:9"
ROOT = Path(__file__).parent.parent


class Unmeasured(Exception):
    """Why a contender can't take part here, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One daemon, ready to be started."""

    name: str
    command: list[str]
    folder: Path
    """Its working folder; its output goes there, to `out` and `err`."""
    variables: Mapping[str, str] = field(default_factory=dict)
    ours: bool = False
    a_line_a_look: bool = False


def idlewatch(folder: Path, interval_s: float) -> Contender:
    """Return our daemon, observing, with idle GPUs that the stub of the tests makes up. Raises Unmeasured."""
    for place in (folder / "volume", folder / "disk"):  # nothing of this machine's own is looked at or written to
        place.mkdir(parents=True)
    try:
        _build_idle_nvml(folder)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unmeasured(f"the NVML stub can't be built: {_last_words(error)}") from error
    variables = {
        "LD_LIBRARY_PATH": str(folder),
        "IDLEWATCH_STATE_DIR": str(state_dir(folder)),
        "IDLEWATCH_VOLUME": str(folder / "volume"),
        "IDLEWATCH_SAVE_ROOT": str(folder / "disk"),
        "IDLEWATCH_RUNPOD_API_URL": NOWHERE,
        "IDLEWATCH_RUNPOD_GRAPHQL_URL": NOWHERE,
        "IDLEWATCH_INTERVAL": f"{interval_s:g}s",
        "RUNPOD_GPU_COUNT": str(GPUS),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "idlewatch", "run", "--observe"]
    return Contender(name="idlewatch", command=command, folder=folder, variables=variables, ours=True)


def _build_idle_nvml(folder: Path) -> None:
    """
    Compile the stub with the number of GPUs built in.

    A script would tell it that number, too, but the stub reads its script anew for every sample that it makes up:
    4,000 times a poll, six times what the reader itself takes. Without one every GPU idles.
    """
    (folder / "count.c").write_text(f"int nvmlDeviceGetCount_v2(unsigned *count) {{ *count = {GPUS}; return 0; }}\n")
    stub, library = str(folder / "stub.o"), folder / "libnvidia-ml.so.1"
    renamed = "-DnvmlDeviceGetCount_v2=count_by_script"
    _run(["cc", "-c", "-fPIC", "-O2", renamed, "-o", stub, str(SOURCE)], folder)
    soname = f"-Wl,-soname,{library.name}"
    _run(["cc", "-shared", "-fPIC", "-O2", soname, "-o", str(library), stub, "count.c", "-lm"], folder)


def state_dir(folder: Path) -> Path:
    """Where the daemon in `folder` tells what it sees."""
    return folder / "state"


LOOP = """
while :; do
    busy=0
    for gpu in $(nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits); do
        if [ "$gpu" -gt 5 ]; then busy=1; fi
    done
    people=$(who | wc -l)
    cpu=$(ps -eo pcpu= --sort=-pcpu | head -n 1)
    echo "gpu=$busy people=$people cpu=$cpu"
    sleep INTERVAL
done
"""
"""What people paste; it writes one line a look."""


def shell_loop(folder: Path, interval_s: float) -> Contender:
    """Return the loop, with the machine's `nvidia-smi`, or one that prints eight zeros and costs next to nothing."""
    missing = [name for name in ("sh", "who", "ps") if shutil.which(name) is None]
    if missing:
        raise Unmeasured(f"no {', '.join(missing)} here")
    folder.mkdir(parents=True)
    (folder / "loop.sh").write_text(LOOP.replace("INTERVAL", f"{interval_s:g}"))
    variables, kind = {}, "real nvidia-smi"
    if shutil.which("nvidia-smi") is None:
        stand_in = folder / "nvidia-smi"
        stand_in.write_text("#!/bin/sh\necho '" + "\n".join(["0"] * GPUS) + "'\n")
        stand_in.chmod(0o755)
        variables, kind = {"PATH": f"{folder}:{os.environ['PATH']}"}, "nvidia-smi a stand-in"
    command = ["sh", str(folder / "loop.sh")]
    return Contender(
        name=f"shell loop ({kind})", command=command, folder=folder, variables=variables, a_line_a_look=True
    )


def autosuspend(folder: Path, interval_s: float, source: str) -> Contender:
    """
    Return autosuspend with five local checks that never find anything, so that each look makes all of them.

    `source`: a key of SOURCES, or `auto` for the first that works. Raises Unmeasured with what each one said.
    """
    failed = []
    for name in SOURCES if source == "auto" else [source]:
        place = folder / name
        place.mkdir(parents=True)
        try:
            made = SOURCES[name](place)
        except (OSError, subprocess.SubprocessError, Unmeasured) as error:
            failed.append(f"{name}: {_last_words(error)}")
            continue
        return _configured(place, interval_s, made)
    raise Unmeasured("; ".join(failed))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """An autosuspend that can be run."""

    name: str
    command: list[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    modern: bool = True
    """It has the verb `daemon` and knows network bandwidth, which 0.6 does not."""


def _configured(folder: Path, interval_s: float, program: _Program) -> Contender:
    config = folder / "autosuspend.conf"
    config.write_text("".join(_sections(folder, interval_s, bandwidth=program.modern)))
    command = [*program.command, "-c", str(config), *(["daemon"] if program.modern else [])]
    return Contender(name=program.name, command=command, folder=folder, variables=program.variables)


def _sections(folder: Path, interval_s: float, *, bandwidth: bool) -> Iterator[str]:
    """Its settings: nothing that a look finds is ever enough, and if it were, suspending would do nothing."""
    yield f"[general]\ninterval = {interval_s:g}\nidle_time = 86400\nsuspend_cmd = true\nwakeup_cmd = true\n"
    yield f"woke_up_file = {folder / 'woke-up'}\nlock_file = {folder / 'lock'}\n"
    yield "[check.ActiveConnection]\nenabled = true\nports = 9\n"
    yield "[check.Load]\nenabled = true\nthreshold = 10000\n"
    yield "[check.Processes]\nenabled = true\nprocesses = no-such-process\n"
    yield "[check.Users]\nenabled = true\nname = no-such-user\n"
    if bandwidth:
        interfaces = [path.name for path in Path("/sys/class/net").iterdir() if path.name != "lo"] or ["lo"]
        yield f"[check.NetworkBandwidth]\nenabled = true\ninterfaces = {','.join(interfaces)}\n"
        yield "threshold_send = 1e15\nthreshold_receive = 1e15\n"


def _installed(_folder: Path) -> _Program:
    found = shutil.which("autosuspend")
    if found is None:
        raise Unmeasured("not on PATH")
    return _Program(name="autosuspend (installed)", command=[found])


def _debian(folder: Path) -> _Program:
    """
    Unpack Debian's own package, without installing it; its two libraries come from the package index.

    Debian 12's autosuspend needs a psutil of the major version that Debian 12 has: psutil._common.snetio went later.
    """
    _run(["apt-get", "-q", "download", "autosuspend"], folder)
    package = next(iter(folder.glob("*.deb")), None)
    if package is None:
        raise Unmeasured("apt-get downloaded nothing")
    version = _run(["dpkg-deb", "-f", str(package), "Version"], folder).strip()
    _run(["dpkg-deb", "-x", str(package), str(folder / "root")], folder)
    command = [_environment(folder, "psutil<6", "portalocker"), "-c", "from autosuspend import main; main()"]
    library = folder / "root/usr/lib/python3/dist-packages"
    return _Program(name=f"autosuspend {version}", command=command, variables={"PYTHONPATH": str(library)})


def _index(folder: Path) -> _Program:
    python = _environment(folder, "autosuspend")
    version = _run([python, "-c", "from importlib.metadata import version; print(version('autosuspend'))"], folder)
    program, old = Path(python).parent / "autosuspend", Path(python).parent / "autosuspend.py"
    name = f"autosuspend {version.strip()} (package index)"
    if program.exists():
        return _Program(name=name, command=[str(program)])
    return _Program(name=name, command=[python, str(old)], modern=False)


SOURCES: Mapping[str, Callable[[Path], _Program]] = {"installed": _installed, "debian": _debian, "index": _index}
"""Where autosuspend is looked for, in this order."""


def _environment(folder: Path, *packages: str) -> str:
    """Make a private environment of this very Python with `packages` and return its interpreter."""
    _run([sys.executable, "-m", "venv", str(folder / "venv")], folder)
    python = str(folder / "venv/bin/python")
    _run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], folder)
    return python


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment_with({}),
        check=True,
        capture_output=True,
        text=True,
        timeout=INSTALL_WITHIN_S,
    )
    return done.stdout


def _last_words(error: Exception) -> str:
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
    lines = (said or str(error)).strip().splitlines()
    return lines[-1][:200] if lines else type(error).__name__
