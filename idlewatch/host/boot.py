"""
What `idlewatch exec` waits for before the container's own command begins: files of the last stop are brought back.

A process of its own, `python -m idlewatch.host.boot`, because it is gone when it is done. Everything that may hang is
in a child of it. Whatever goes wrong is said, and the Pod goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

from idlewatch.children.tasks import Task, TaskEnd, task_starter
from idlewatch.durations import format_duration
from idlewatch.errors import IdlewatchError, SettingsError
from idlewatch.history import timeline
from idlewatch.host import restoring
from idlewatch.host.restoring import Became
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.settings import load, pod_sources

_ENDING_S = 15.0
"""What may come after the set time: the child ends itself, and hangs only where the volume does."""
_POLL_EVERY_S = 0.05
_GOES_ON = "the Pod goes on without it"


class Waiting(Protocol):
    """The clock's part that is needed."""

    def now_s(self) -> float:
        """CLOCK_BOOTTIME seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait, or less where a shutdown request comes."""
        ...

    def ended(self) -> bool:
        """Whether a shutdown request came."""
        ...


def main() -> int:
    """Return 0 where all went well or nothing was to be done."""
    clock = MachineClock()
    clock.end_on_shutdown_request()
    try:
        here = assembled(load(pod_sources()))
        reason = restoring.why_not(here, clock.now_s(), clock.wall(), in_front=True)
        if reason is None:
            return 0 if brought_back(here, clock, task_starter(), _say) else 1
        _say(f"nothing is brought back: {reason}")
    except SettingsError:
        _say("nothing is brought back: the settings are wrong")  # the daemon says which
        return 1
    except (IdlewatchError, OSError) as error:
        _say(f"NOT brought back: {error}; {_GOES_ON}")
        return 1
    return 0


def brought_back(
    here: Assembly,
    clock: Waiting,
    start_task: Callable[[str, Json, float, float], Task],
    say: Callable[[str], None],
) -> bool:
    """Have the newest snapshot brought back, wait for it as long as is set, and say what became of it."""
    within_s = here.loaded.settings.restore_within.total_seconds()
    most = format_duration(within_s)
    say(f"bringing back what the last stop wiped; the Pod's own command waits for that, {most} at most")
    task = start_task("restore", None, clock.now_s(), restoring.SILENT_S)
    end = _ended(task, clock, within_s + _ENDING_S)
    for event in [one for one in task.take_events() if isinstance(one, dict)]:
        _leave(here, str(event.get("kind")), str(event.get("text")))
    mark = restoring.mark_of(here)
    if mark and mark.became is Became.DONE and end and not end.error:
        say(mark.text)
        return True
    if not mark or mark.became is not Became.FAILED:
        late = "this container is being ended" if clock.ended() else f"{here.objects or 'the volume'} does not answer"
        restoring.failed(here, str(end.error) if end and end.error else late)
        mark = restoring.mark_of(here)
    text = mark.text if mark else "NOT brought back"
    _leave(here, timeline.RESTORE_FAILED, text)
    say(f"{text}; {_GOES_ON}")
    return False


def _leave(here: Assembly, kind: str, text: str) -> None:
    """For the timeline of the daemon, which begins after this."""
    timeline.leave(here.loaded.settings.state_dir, kind, text, MachineClock().wall())


def _ended(task: Task, clock: Waiting, within_s: float) -> TaskEnd | None:
    """How it ended; None where it had to be ended."""
    ends_s = clock.now_s() + within_s
    while not (end := task.poll(clock.now_s())) and clock.now_s() < ends_s and not clock.ended():
        clock.sleep(_POLL_EVERY_S)
    task.end()
    return end


def _say(text: str) -> None:
    sys.stderr.write(f"idlewatch exec: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
