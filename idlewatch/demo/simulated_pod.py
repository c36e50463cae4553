"""
The main job on a simulated Pod: recorded readings in, a stopped Pod and its files back out.

Real are the judges, the policy, the daemon and its record, the actions and their child processes, the save and the
restore with real files, and HTTP to RunPod's API on loopback. Simulated are the readings, the machine that ends, and
the daemon's clock, which runs fast while nothing is under way.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from rich.console import Console

from idlewatch import assembly
from idlewatch.deciding.moment import Moment
from idlewatch.deciding.tick import Tick
from idlewatch.demo.loopback_api import LoopbackApi, LoopbackPod
from idlewatch.demo.recorded import QuietHost, RecordedGpu, recorded_rows
from idlewatch.durations import format_duration
from idlewatch.history.store import History
from idlewatch.model import Action, Activity, PodIdentity
from idlewatch.pod.assembled import Assembly
from idlewatch.settings import Source, environment_with, load
from idlewatch.snapshot import find, restore
from idlewatch.stopping import notes
from idlewatch.watching.daemon import Daemon
from idlewatch.watching.record import DaemonRecord

POD_ID = "demo4x7k2m9q1z"
_KEY = "demo-key"
_USD_PER_HOUR = 3.99
_START = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
_MONDAY = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
_REAL_PAUSE_S = 0.05
_SHORT_PAUSE_S = 5 * 60.0
"""Work that goes on after a shorter pause is not told again."""
_WORK = {
    "root/project/train.py": b"import torch\nprint('three days of work')\n",
    "root/project/notes.md": b"# what I learned today\n",
    "root/.bash_history": b"python train.py\npip install einops\n",
    "usr/lib/python3/einops/__init__.py": b"__version__ = '0.8'\n" * 400,
    "root/.cache/model.bin": bytes(range(256)) * 8192,
}


class DemoClock:
    """A clock that `sleep` moves: at once, or in real time while a child process works."""

    def __init__(self) -> None:
        """Begins at 0."""
        self._now_s = 0.0
        self.real_time: Callable[[], bool] = lambda: False

    def now_s(self) -> float:
        """Seconds since the simulated Pod started."""
        return self._now_s

    def wall(self) -> datetime:
        """A Friday afternoon and what follows."""
        return _START + timedelta(seconds=self._now_s)

    def sleep(self, seconds: float) -> None:
        """Move on."""
        if self.real_time():
            time.sleep(_REAL_PAUSE_S)
            self._now_s += _REAL_PAUSE_S
        else:
            self._now_s += seconds


class Narrator:
    """Tells what happens as it happens, and passes each tick on to the daemon's own record."""

    def __init__(self, console: Console, clock: DemoClock, record: DaemonRecord) -> None:
        """Speaks through `console`."""
        self._console, self._clock, self._record = console, clock, record
        self._active_s = -_SHORT_PAUSE_S

    def tick(self, report: Tick) -> None:
        """Say what changed."""
        self._record.tick(report)
        active = [finding for finding in report.findings if finding.activity is Activity.ACTIVE]
        now_s = report.moment.now_s
        if active and now_s - self._active_s >= _SHORT_PAUSE_S:
            self.say("green", "in use", f"{active[0].signal}: {active[0].reason}")
        self._active_s = now_s if active else self._active_s
        if report.outcome:
            self.say("cyan", "done" if report.outcome.ok else "failed", report.outcome.reason)
        if report.decision.action is not Action.WAIT:
            self.say("yellow", report.decision.action.value, report.decision.reason)

    def tell(self, text: str) -> None:
        """A notice as people in the Pod would see it on their terminals."""
        for line in text.splitlines():
            self._console.print(f"              | {line}", highlight=False, markup=False, soft_wrap=True)

    def say(self, style: str, what: str, why: str) -> None:
        """One line of the story."""
        at = f"{self._clock.wall():%a %H:%M:%S}"
        self._console.print(f"{at}  [{style}]{what:<7}[/{style}] {why}", highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """How it ended."""

    stopped_at: datetime | None
    why: str
    problems: tuple[str, ...]
    """What RunPod's API facts say against our requests."""
    wiped: int
    restored_whole: bool


def play(console: Console) -> bool:
    """Run the demo; returns whether the Pod was stopped and every file came back."""
    with tempfile.TemporaryDirectory(prefix="idlewatch-demo-") as folder:
        story = simulate(console, Path(folder))
    if story.stopped_at is None:
        console.print("[red]The simulated Pod was not stopped.[/red]")
        return False
    spared_h = (_MONDAY - story.stopped_at).total_seconds() / 3600
    came_back = "every one of them, byte for byte" if story.restored_whole else "[red]NOT all of them[/red]"
    console.print()
    console.print(f"Stopped {story.stopped_at:%A at %H:%M}: {story.why}.", highlight=False)
    console.print(f"Until Monday 09:00 it would have cost ${spared_h * _USD_PER_HOUR:.0f} more.", highlight=False)
    console.print(f"The stop wiped {story.wiped} files; brought back: {came_back}.", highlight=False)
    return story.restored_whole and not story.problems


def simulate(console: Console, folder: Path) -> Story:
    """The whole path in `folder`: watch, warn, save, stop, wipe, start again, restore, compare."""
    disk, volume, state_dir = folder / "disk", folder / "volume", folder / "state"
    for made in (disk, volume, state_dir):
        made.mkdir()
    _work_on(disk)
    before, stopped = _digests(disk), Event()
    with LoopbackApi(pods=[LoopbackPod(pod_id=POD_ID)], keys=[_KEY], on_stop=lambda _: stopped.set()) as api:
        variables = {
            "RUNPOD_POD_ID": POD_ID,
            "RUNPOD_API_KEY": _KEY,
            "IDLEWATCH_SAVE_ROOT": str(disk),
            "IDLEWATCH_VOLUME": str(volume),
            "IDLEWATCH_STATE_DIR": str(state_dir),
            "IDLEWATCH_HOOKS": str(folder / "hooks"),
            "IDLEWATCH_RUNPOD_API_URL": api.rest_url,
            "IDLEWATCH_RUNPOD_GRAPHQL_URL": api.graphql_url,
        }
        here = _assembled(variables, disk, volume)
        clock = DemoClock()
        why = _watch(console, here, clock, variables, stopped)
    wiped = len(before)
    shutil.rmtree(disk)
    disk.mkdir()
    after = stopped.is_set() and _start_again(console, here, disk, clock.wall()) and _digests(disk) == before
    return Story(
        stopped_at=clock.wall() if stopped.is_set() else None,
        why=why,
        problems=tuple(api.problems),
        wiped=wiped,
        restored_whole=after,
    )


def _assembled(variables: dict[str, str], disk: Path, volume: Path) -> Assembly:
    loaded = load([Source(name="demo", variables=variables)])
    pod = PodIdentity(pod_id=POD_ID, source="demo", started_s=0.0, boot_key=f"{POD_ID}@first")
    return Assembly(loaded=loaded, pod=pod, volume=volume, save_root=disk)


def _watch(console: Console, here: Assembly, clock: DemoClock, variables: dict[str, str], stopped: Event) -> str:
    """Watch until the API has stopped the Pod or a day has passed; returns the reason of the stop."""
    history = History(here.loaded.settings.state_dir)
    narrator = Narrator(console, clock, DaemonRecord(history, clock, here.loaded, here.pod))
    actions = assembly.pod_actions(here, narrator, environment_with(variables), wall=clock.wall)
    clock.real_time = lambda: actions.busy
    daemon = Daemon(
        clock=clock,
        signals=[RecordedGpu(recorded_rows()), QuietHost()],
        actions=actions,
        record=narrator,
        moment=lambda now_s: Moment(now_s=now_s, uptime_s=now_s),
        limits=here.loaded.settings.limits(),
    )
    hours = format_duration(RecordedGpu(recorded_rows()).ends_s)
    console.print(
        f"A simulated Pod; a developer's GPU as recorded over {hours}, then nobody comes back.\n",
        highlight=False,
        soft_wrap=True,
    )
    # as in a real Pod, which lives on for seconds after RunPod's answer: the note is told it
    daemon.run(until=lambda: (stopped.is_set() and not actions.busy) or clock.now_s() > 86400.0)
    daemon.close()
    history.close()
    return daemon.state.why


def _start_again(console: Console, here: Assembly, disk: Path, stopped: datetime) -> bool:
    """
    The next start: an empty disk, the same volume.

    The note was written by a child process, whose clock is the real one; it is told at the simulated time.
    """
    if here.volume is None:
        return False
    again = replace(here.pod, boot_key=f"{POD_ID}@second")
    console.print("\nThe machine is gone, its disk wiped. Started again with the same volume:", highlight=False)
    note = notes.stop_note(here.volume, POD_ID)
    told_at = note and {**note, "at": f"{stopped:%a %H:%M:%S}"}
    said = notes.previous_stop(told_at, again.boot_key)
    console.print(f"  {said}", highlight=False, soft_wrap=True)
    report = restore(find(here.volume, POD_ID), disk)
    console.print(f"  restored {report.files} files and {report.folders} folders", highlight=False)
    return True


def _work_on(disk: Path) -> None:
    for name, content in _WORK.items():
        path = disk / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (disk / "root/project/latest").symlink_to("train.py")


def _digests(disk: Path) -> dict[str, str]:
    """Every file's content, mode and time, by its path."""
    found = {}
    for path in sorted(disk.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(disk))] = f"-> {path.readlink()}"
        elif path.is_file():
            status = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(disk))] = f"{digest} {status.st_mode:o} {status.st_mtime_ns}"
    return found
