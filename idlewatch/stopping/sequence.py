"""
What happens between the warning and the stop, in the process of the save task, one step after the other:

    before-save hooks → programs are asked for a checkpoint → (ceiling, request: jobs are asked to end)
      → save → after-save hooks → before-stop hooks

All of it comes before the last look, so evidence can call it off at any point: the daemon ends this process, a hook
that runs ends with its whole tree, requests are taken back, and a save without its manifest is none. Only jobs that
were asked to end stay ended, which is why that is done only where evidence does not call off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from idlewatch.amounts import amount
from idlewatch.children import trees
from idlewatch.deciding.asked_work import ASKED_TAIL_S
from idlewatch.errors import Refused, SignalError, SnapshotError
from idlewatch.hooks import Occasion, Stage, hooks_of
from idlewatch.model import Cause, Json
from idlewatch.pod.assembled import Assembly
from idlewatch.pod.saving import with_key
from idlewatch.settings import OnSaveFailure
from idlewatch.snapshot import (
    SaveRequest,
    SaveUnderWay,
    Snapshot,
    be_gentle,
    is_busy,
    measure_loss,
    places,
    read_mounts,
)
from idlewatch.snapshot import save as save_now
from idlewatch.stopping import checkpoints
from idlewatch.stopping.ending import end_jobs
from idlewatch.stopping.pod_hooks import Ran, hook_folder, hooks_for

Progress = Callable[[Json], None]
_Attempt = tuple[float, Snapshot | None]
"""When a save began (time.monotonic), and what it made."""

_SAVE_ATTEMPTS = 3
_OTHER_SAVE_WITHIN_S = 1800.0
"""How long another save may keep this one waiting: longer than any should take."""
_LOOK_EVERY_S = 1.0
_ENOUGH_BYTES = 1024 * 1024
"""What may change while a save is proven, or by hooks after it; more, and the save does not hold what is there now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the save task is asked for."""

    save: Mapping[str, Json] | None = None
    needless: str | None = None
    impossible: str | None = None
    reason: str = ""
    cause: str = Cause.IDLE.value
    ask: bool = True
    """Whether programs are asked for a checkpoint: once an end sequence is enough."""
    drill: bool = False

    @property
    def forced(self) -> bool:
        """Whether evidence does not call it off."""
        return self.cause in (Cause.CEILING.value, Cause.REQUEST.value)


def wanted_of(request: Json) -> Wanted:
    """Return what a request wants. Raises SnapshotError where it makes no sense."""
    if not isinstance(request, dict):
        raise SnapshotError("not a request for a save")
    save = request.get("save")
    return Wanted(
        save=save if isinstance(save, dict) else None,
        needless=_text(request.get("needless")),
        impossible=_text(request.get("impossible")),
        reason=_text(request.get("reason")) or "",
        cause=_text(request.get("cause")) or Cause.IDLE.value,
        ask=request.get("ask") is not False,
        drill=request.get("drill") is True,
    )


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


class EndSequence:
    """All of it, once."""

    def __init__(self, here: Assembly, wanted: Wanted, progress: Progress) -> None:
        self._here, self._wanted, self._progress = here, wanted, progress
        self._began_s = time.monotonic()
        occasion = Occasion(reason=wanted.reason, cause=wanted.cause, volume=here.volume, drill=wanted.drill)
        self._hooks = hooks_for(here, occasion, progress)
        self._ran = Ran(here)
        self._done: list[Json] = []
        self._goes_on = here.loaded.settings.on_save_failure is OnSaveFailure.STOP

    def run(self) -> dict[str, Json]:
        """Return what was saved, and what the daemon must know of it. Raises SnapshotError or Refused."""
        trees.adopt_orphans()
        try:
            return self._run()
        finally:
            trees.end_children()

    def _run(self) -> dict[str, Json]:
        if self._wanted.impossible and not self._goes_on:
            raise SnapshotError(self._wanted.impossible)
        self._refuse_what_will_fail()
        if not self._wanted.drill:
            self._ran.clear(Stage.BEFORE_STOP)
        self._run_hooks(Stage.BEFORE_SAVE)
        self._turn_to_programs()
        made = self._save_or_go_on()
        self._run_hooks(Stage.AFTER_SAVE, made.snapshot)
        self._run_hooks(Stage.BEFORE_STOP, made.snapshot)
        made = self._again_after_hooks(made)
        words = [end.text for end in self._hooks.ends if not end.ok]
        done: list[Json] = [end.text for end in self._hooks.ends]
        return {
            "snapshot": made.snapshot,
            "text": "; ".join([made.text, *words]),
            "save_began_after_s": made.began_s - self._began_s,
            "done": [*done, *self._done],
        }

    # ---------------------------------------------------------------- hooks

    def _refuse_what_will_fail(self) -> None:
        """What makes the save fail in any case is told before anything is asked of anybody."""
        if self._wanted.save is not None and not self._goes_on:
            self._request()
        folder = hook_folder(self._here)
        stages = (Stage.BEFORE_SAVE, Stage.AFTER_SAVE, Stage.BEFORE_STOP)
        refused = [h for stage in stages for h in hooks_of(stage, folder) if h.required and h.refused]
        if refused and not self._goes_on:
            raise SnapshotError(f"a required hook can't run: {refused[0].name}: {refused[0].refused}")

    def _run_hooks(self, stage: Stage, snapshot: str | None = None) -> None:
        ends = self._hooks.run(stage, snapshot=snapshot, begun=lambda name: self._begun(stage, name))
        failed = [end for end in ends if end.hook.required and not end.ok]
        if failed and not self._goes_on:
            raise SnapshotError(f"a required hook failed: {failed[0].text}")

    def _begun(self, stage: Stage, name: str) -> None:
        """Keep that it ran, for a shutdown that comes before the stop; a drill is none of the daemon's business."""
        if stage is Stage.BEFORE_STOP and not self._wanted.drill:
            self._ran.add(stage, name)

    def _again_after_hooks(self, made: Made) -> Made:
        """Save once more where hooks changed much after the save."""
        later = [end for end in self._hooks.ends if end.hook.stage is not Stage.BEFORE_SAVE]
        if made.snapshot is None or not later or not self._changed_since(made):
            return made
        return self._save()

    def _changed_since(self, made: Made) -> bool:
        request = self._request()
        loss = measure_loss(request.root, skip=request.left, since_ns=made.ended_ns, excludes=request.excludes)
        return loss.total_bytes >= _ENOUGH_BYTES

    # ---------------------------------------------------------------- programs

    def _turn_to_programs(self) -> None:
        settings = self._here.loaded.settings
        registered = checkpoints.programs(settings.state_dir)
        if self._wanted.drill:
            self._done += [f"would ask for a checkpoint: {program.text}" for program in registered]
            return
        if self._wanted.ask:
            self._ask(registered)
        if self._wanted.forced:
            self._end_jobs([program.key for program in registered])

    def _ask(self, registered: Sequence[checkpoints.Program]) -> None:
        here = self._here
        try:
            answers = checkpoints.ask(
                registered,
                here.loaded.settings.state_dir,
                here.pod.boot_key,
                within_s=self._checkpoint_within_s(),
                settle_s=self._settle_s(),
                progress=self._progress,
            )
        except OSError as error:
            self._tell({"kind": "checkpoint failed", "text": f"nobody could be asked: {error}", "facts": {}})
            return
        for answer in answers:
            self._tell(answer.as_event())

    def _settle_s(self) -> float:
        """After the last answer: what was done until then shows only in a later look, and belongs into the save."""
        return 2 * self._here.loaded.settings.interval.total_seconds()

    def _checkpoint_within_s(self) -> float:
        """Where evidence cancels, shorter than what makes the policy forget the quiet time."""
        settings = self._here.loaded.settings
        within_s = settings.checkpoint_within.total_seconds()
        most_s = settings.blind_limit.total_seconds() - ASKED_TAIL_S - self._settle_s()
        return within_s if self._wanted.forced else max(1.0, min(within_s, most_s))

    def _end_jobs(self, registered: Sequence[checkpoints.Key]) -> None:
        settings = self._here.loaded.settings
        if not settings.end_jobs and not registered:
            return
        within_s = settings.end_jobs_within.total_seconds()
        try:
            ends = end_jobs(settings.end_jobs, registered, within_s=within_s, progress=self._progress)
        except SignalError as error:
            self._tell({"kind": "job not ended", "text": str(error), "facts": {}})
            return
        for end in ends:
            self._tell(end.as_event())

    def _tell(self, event: dict[str, Json]) -> None:
        self._done.append(event["text"])
        self._progress({"event": event})

    # ---------------------------------------------------------------- the save

    def _save_or_go_on(self) -> Made:
        try:
            return self._save()
        except (SnapshotError, Refused):
            if self._goes_on:
                self._run_hooks(Stage.BEFORE_STOP)
            raise

    def _save(self) -> Made:
        began_s, wanted = time.monotonic(), self._wanted
        if wanted.needless:
            return Made(began_s=began_s, ended_ns=time.time_ns(), text=wanted.needless)
        if wanted.impossible:
            raise SnapshotError(wanted.impossible)
        return saved(self._request(), self._progress)

    def _request(self) -> SaveRequest:
        if self._wanted.save is None:
            raise SnapshotError("not a request for a save")
        request = SaveRequest.from_json(self._wanted.save)
        away = None if request.objects or not request.volume else places.leads_away(request.volume, read_mounts())
        if away:
            raise SnapshotError(away)
        return with_key(self._here, request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A save that was made, or was not needed."""

    began_s: float
    """When it began (time.monotonic): from then on changes may be missing in it."""
    ended_ns: int
    """When its last look at the disk was over at the latest, wall clock."""
    text: str
    snapshot: str | None = None


def saved(request: SaveRequest, progress: Progress) -> Made:
    """
    Save what a stop would wipe, again where much changed while the save was proven.

    Another save that is under way, a person's or a periodic one, is waited for. Raises SnapshotError where it fails,
    or where the disk changes faster than it can be saved; SaveUnderWay where the other one does not end.
    """
    be_gentle()
    changed_bytes = 0
    for _ in range(_SAVE_ATTEMPTS):
        began_s, made = _saved_in_turn(request, progress)
        ended_ns = time.time_ns()
        if made is None:
            return Made(began_s=began_s, ended_ns=ended_ns, text="nothing that a stop would wipe")
        if made.changed_after_bytes < _ENOUGH_BYTES:
            text = f"saved {made.words}"
            return Made(began_s=began_s, ended_ns=ended_ns, text=text, snapshot=made.id)
        changed_bytes = made.changed_after_bytes
    raise SnapshotError(f"{amount(changed_bytes)} changed again while each of {_SAVE_ATTEMPTS} saves was proven")


def _saved_in_turn(request: SaveRequest, progress: Progress, within_s: float = _OTHER_SAVE_WITHIN_S) -> _Attempt:
    """Save once no other save is under way, and return when that began. Raises SaveUnderWay after `within_s`."""
    give_up_s = time.monotonic() + within_s
    while True:
        began_s = time.monotonic()
        try:
            if began_s >= give_up_s or not is_busy(request.place, request.pod_id):
                return began_s, save_now(request, progress=lambda p: progress(p.as_json()))
        except SaveUnderWay:
            if began_s >= give_up_s:
                raise
        progress({"stage": "another save", "left_s": round(give_up_s - began_s)})
        time.sleep(_LOOK_EVERY_S)
