"""
The drill: the end sequence for real up to the stop call, and not that call.

The same actions that the daemon carries out word the warning and make the save; the save is proven and kept as any
other. A note and this boot's history are written to the volume and read back. Nobody's processes are touched: what is
started (hooks too) has IDLEWATCH_DRILL=1, and the warning reaches terminals only where that is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from idlewatch import assembly
from idlewatch.doctor import drilled
from idlewatch.doctor.examine import API, VOLUME, Examined
from idlewatch.doctor.here import Here
from idlewatch.doctor.lines import Group, Line, Lines, works
from idlewatch.doctor.looking import Look, Seen, look_at, looker
from idlewatch.effects.actions import PodActions
from idlewatch.errors import Refused
from idlewatch.history.status import is_stale, mapping
from idlewatch.history.store import status_of
from idlewatch.model import Action, Cause, Clock, Decision, Json, Outcome, Phase
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.settings import OnSaveFailure
from idlewatch.state_folder import daemon_watches
from idlewatch.telling.announcing import Tells

DRILL = {"IDLEWATCH_DRILL": "1"}
"""What tells a hook that nothing will be stopped."""
FORMAT = 1
_WHY = "a drill (idlewatch doctor --drill)"
_CAUSE = Cause.IDLE
"""Of all causes the one that ends nobody's program."""
_SAY = Lines(Group.DRILL)
_NOTE_WITHIN_S = 60.0
_LISTEN_EVERY_S = 0.05


@dataclass(kw_only=True)
class Overheard:
    """Takes the warning, and passes it on only where people are to be told."""

    people: Tells | None
    texts: list[str] = field(default_factory=list)

    def tell(self, text: str) -> object:
        """Keep it; on a terminal it begins by saying that it is a drill."""
        self.texts.append(text)
        return self.people.tell(f"THIS IS A DRILL: nothing will be stopped.\n{text}") if self.people else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What the drill did."""

    lines: tuple[Line, ...]
    warning: str
    told: bool
    snapshot: str | None

    @property
    def done(self) -> bool:
        """All of it went well."""
        return works(self.lines)

    def as_json(self) -> Json:
        """Return it as JSON values, without its lines."""
        return {"done": self.done, "snapshot": self.snapshot, "warning": self.warning, "told": self.told}


def refuse_drill(here: Here, now_s: float) -> None:
    """Raise Refused where there is nothing to drill, or where a daemon is in the middle of the real thing."""
    if here.refusal:
        raise Refused(f"there is nothing to drill: {here.refusal}")
    state_dir = here.loaded.settings.state_dir
    lives, status = daemon_watches(state_dir), status_of(state_dir)
    if not lives or status is None or is_stale(status, now_s) or status.get("phase") == Phase.WATCHING:
        return
    raise Refused(
        f"the daemon is in the middle of an end sequence ({status.get('phase')}: {status.get('reason')}); "
        "`idlewatch hold 2h` or `idlewatch stop --cancel` calls it off, then drill"
    )


class Drill:
    """One drill, after the examination whose results it uses."""

    def __init__(self, here: Here, examined: Examined, environment: Mapping[str, str], clock: Clock) -> None:
        """`environment` is that of the child processes, without the drill's own variable."""
        self._here, self._examined, self._clock = here, examined, clock
        self._environment = {**environment, **DRILL}
        self._events: list[Json] = []

    def run(self, people: Tells | None, progress: Callable[[Json], None] = lambda _: None) -> Drilled:
        """Do it; `people` are told the warning, None: nobody is. Raises Refused as `refuse_drill`."""
        began_s, heard, snapshot = self._clock.now_s(), Overheard(people=people), None
        lines = [line for line in [self._hanging()] if line]
        if not lines:
            place = assembled(self._here.loaded)
            actions = assembly.pod_actions(place, heard, self._environment)
            try:
                lines.append(self._warned(actions, heard))
                outcome = self._saved(actions, progress)
            finally:
                actions.close()
            snapshot = outcome.snapshot
            lines += [*self._hook_lines(), self._save_line(outcome), *self._noted(place), self._asked()]
            lines += self._remembered(place, snapshot, self._clock.now_s() - began_s) if works(lines) else []
        warning = "\n".join(heard.texts)
        return Drilled(lines=tuple(lines), warning=warning, told=people is not None, snapshot=snapshot)

    def _hanging(self) -> Line | None:
        volume = self._examined.seen.get(VOLUME, Seen())
        if not volume.hung:
            return None
        return _SAY.broken(
            "save", f"nothing was tried: the volume hangs ({volume.missing})", "see what is saved, above"
        )

    def _warned(self, actions: PodActions, heard: Overheard) -> Line:
        now_s, warn_for_s = self._clock.now_s(), self._here.loaded.settings.warn_for.total_seconds()
        acts_at_s = now_s + warn_for_s
        actions.carry_out(Decision(action=Action.WARN, reason=_WHY, cause=_CAUSE, acts_at_s=acts_at_s), now_s)
        if heard.people is None:
            return _SAY.ok("warning", "the warning was worded, see below, and told to nobody (--tell tells it)")
        return _SAY.ok("warning", "the warning was told, as a drill, to whoever is there")

    def _saved(self, actions: PodActions, progress: Callable[[Json], None]) -> Outcome:
        """Let the real save run to its end."""
        refuse_drill(self._here, self._clock.now_s())
        actions.carry_out(Decision(action=Action.SAVE, reason=_WHY, cause=_CAUSE), self._clock.now_s())
        while True:
            outcome = actions.poll(self._clock.now_s())
            self._events += actions.told()
            if outcome is not None:
                return outcome
            progress(actions.progress())
            time.sleep(_LISTEN_EVERY_S)

    def _hook_lines(self) -> Iterator[Line]:
        """What came of each hook; a required one that failed is the save's failure, too."""
        for event in map(mapping, self._events):
            kind, text = str(event.get("kind")), str(event.get("text"))
            if kind == "hook done":
                yield _SAY.ok("hook", text)
            elif kind.startswith("hook"):
                yield _SAY.warning("hook", text, "run it by hand with IDLEWATCH_DRILL=1; see docs/hooks.md")

    def _save_line(self, outcome: Outcome) -> Line:
        if outcome.ok:
            kept = f"; kept as any other, `idlewatch restore {outcome.snapshot} --dry-run`" if outcome.snapshot else ""
            return _SAY.ok("save", f"{outcome.reason}{kept}")
        if self._here.loaded.settings.on_save_failure is OnSaveFailure.STOP:
            text = f"the save failed ({outcome.reason}); it would be stopped all the same"
            return _SAY.warning("save", text, "IDLEWATCH_ON_SAVE_FAILURE=keep keeps it up instead")
        return _SAY.broken("save", f"the save failed: {outcome.reason}", "see what is saved, above")

    def _noted(self, place: Assembly) -> Iterator[Line]:
        if place.volume is None:
            return
        request: Json = {"drill": True, "at": self._clock.wall().isoformat()}
        seen = self._child("rehearse", request)
        if seen.missing:
            remedy = "the stop is asked for without its note, and the next start can't say why; mend the volume"
            yield _SAY.broken("note", f"the note and the history could not be written: {seen.missing}", remedy)
            return
        text = f"a note and {seen.said.get('history_lines')} lines of history were written, read back and removed again"
        yield _SAY.ok("note", text)

    def _asked(self) -> Line:
        """What the examination, a moment ago, heard from the API: the last thing before the stop call."""
        answers = self._examined.seen.get(API, Seen()).said.get("answers")
        read = (
            [one for one in answers if isinstance(one, dict) and one.get("read")] if isinstance(answers, list) else []
        )
        if read:
            return _SAY.ok("api", "the API let this Pod be read; the stop call, next, was not made")
        return _SAY.broken("api", "the API did not let this Pod be read", "see the key and the API, above")

    def _remembered(self, place: Assembly, snapshot: str | None, took_s: float) -> Iterator[Line]:
        """Keep that it succeeded, on the volume and where `status` looks."""
        note: dict[str, Json] = {
            "format": FORMAT,
            "at": self._clock.wall().isoformat(),
            "pod_id": place.pod.pod_id,
            "boot_key": place.pod.boot_key,
            "snapshot": snapshot,
            "took_s": round(took_s, 1),
        }
        failed = self._child("remember", note).missing if place.volume else None
        try:
            drilled.keep(self._here.loaded.settings.state_dir, note)
        except OSError as error:
            failed = failed or f"IDLEWATCH_STATE_DIR can't be written: {error.strerror}"
        if failed:
            yield _SAY.warning("remembered", f"that it succeeded could not be kept: {failed}", "run it as root")

    def _child(self, name: str, request: Json) -> Seen:
        return look_at([Look(name=name, within_s=_NOTE_WITHIN_S, request=request)], looker(self._environment))[name]
