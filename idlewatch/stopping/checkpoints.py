"""
Asking programs in the Pod to write a checkpoint before the save; everything is files in the state folder's `requests/`.

    ask-ID.json          a program wants to be asked (`hold.ask_me`, or a hold placed with `asks=True`)
    checkpoint-ID.json   it is asked now; it answers by `answer-ID.json` and takes this file away (`hold.answered`)
    asked.json           since when and until when programs were asked, and which; the daemon reads it in each tick

What an asked program computes and writes is no evidence of use while it is asked (`policy`), so a stop can go on; the
file says how long, and nothing here can make that longer than MOST_S. A program that does not answer in time is left
alone.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from idlewatch.children.tasks import seldom
from idlewatch.deciding.asked_work import ASKED_TAIL_S
from idlewatch.durations import format_duration
from idlewatch.files import write_atomically
from idlewatch.model import Json

FOLDER = "requests"
ASKED_FILE = "asked.json"
MOST_S = 30 * 60.0
"""The longest that one asking is believed to last."""
_LOOK_EVERY_S = 0.2
_TEXT_MAX = 200

Key: TypeAlias = tuple[int, int]
"""A process for good: its PID and its start in clock ticks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that wants to be asked."""

    id: str
    who: str
    reason: str
    key: Key

    @property
    def text(self) -> str:
        """`train.py (pid 123, fine-tuning)`."""
        return f"{self.who} (pid {self.key[0]}{', ' if self.reason else ''}{self.reason})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of asking one program."""

    program: Program
    ok: bool
    how: str
    """In its own words, or `no answer within 2m`, or `it has ended`."""

    def as_event(self) -> dict[str, Json]:
        """As an event of the timeline."""
        kind = "checkpoint done" if self.ok else "checkpoint failed"
        return {"kind": kind, "text": f"{self.program.text}: {self.how}", "facts": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A span in which programs were asked, CLOCK_BOOTTIME seconds, and who they were."""

    from_s: float
    until_s: float
    keys: frozenset[Key]


# ---------------------------------------------------------------- the daemon's side


def asked_of(state_dir: Path, boot_key: str) -> Asked | None:
    """Return the newest span in which programs were asked in this start; None where there was none."""
    try:
        said = json.loads((state_dir / FOLDER / ASKED_FILE).read_text())
        if said["boot_key"] != boot_key:
            return None
        from_s, until_s = float(said["from_s"]), float(said["until_s"])
        keys = frozenset((int(pid), int(ticks)) for pid, ticks in said["processes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Asked(from_s=from_s, until_s=min(until_s, from_s + MOST_S), keys=keys)


def asked_processes(state_dir: Path, boot_key: str, from_s: float, to_s: float) -> frozenset[Key]:
    """Return which processes were asked, or had just been, in some part of the span; CLOCK_BOOTTIME seconds."""
    asked = asked_of(state_dir, boot_key)
    if asked is None or to_s < asked.from_s or from_s > asked.until_s + ASKED_TAIL_S:
        return frozenset()
    return asked.keys


# ---------------------------------------------------------------- the task's side


def programs(state_dir: Path, proc: Path = Path("/proc")) -> list[Program]:
    """Return the living programs that want to be asked; the files of those that have ended are removed."""
    found = []
    for path in sorted((state_dir / FOLDER).glob("ask-*.json")):
        program = _program(path)
        if program is None:
            continue
        if is_alive(program.key, proc):
            found.append(program)
        else:
            _remove(path)
    return found


def ask(
    wanted: Sequence[Program],
    state_dir: Path,
    boot_key: str,
    *,
    within_s: float,
    progress: Callable[[Json], None],
    settle_s: float,
    proc: Path = Path("/proc"),
) -> list[Answer]:
    """
    Ask each of them, and wait for their answers for at most `within_s` seconds, then `settle_s` for what they still do.

    Ended by an exception it takes the requests back. Returns what came of each. Raises OSError where the state folder
    can't be written.
    """
    if not wanted:
        return []
    asking = _Asking(state_dir / FOLDER, boot_key, wanted, within_s, proc)
    try:
        asking.begin()
        asking.wait(progress)
    finally:
        asking.end()
    if any(answer.ok for answer in asking.answers.values()):
        _rest(settle_s, progress)
    return [asking.answers[program.id] for program in wanted]


class _Asking:
    def __init__(self, folder: Path, boot_key: str, wanted: Sequence[Program], within_s: float, proc: Path) -> None:
        self._folder, self._boot_key, self._wanted, self._within_s = folder, boot_key, wanted, within_s
        self._proc = proc
        self._from_s = now_s()
        self.answers: dict[str, Answer] = {}

    def begin(self) -> None:
        self._tell(self._from_s + self._within_s)
        for program in self._wanted:
            _remove(self._folder / f"answer-{program.id}.json")
            said = {"version": 1, "asked_s": self._from_s, "until_s": self._from_s + self._within_s}
            write_atomically(self._request(program), json.dumps(said))

    def wait(self, progress: Callable[[Json], None]) -> None:
        say = seldom(progress)
        while len(self.answers) < len(self._wanted) and now_s() < self._from_s + self._within_s:
            waits = ", ".join(program.text for program in self._wanted if program.id not in self.answers)
            say({"stage": "checkpoint", "waits_for": waits})
            time.sleep(_LOOK_EVERY_S)
            self._take()

    def end(self) -> None:
        """Take back what was not answered, and say when it was over."""
        self._take()
        for program in self._wanted:
            _remove(self._request(program))
            late = f"no answer within {format_duration(self._within_s)}"
            self.answers.setdefault(program.id, Answer(program=program, ok=False, how=late))
        self._tell(now_s())

    def _take(self) -> None:
        for program in self._wanted:
            if program.id in self.answers:
                continue
            if not self._request(program).exists():
                self.answers[program.id] = self._answer(program)
            elif not (self._folder / f"ask-{program.id}.json").exists():
                self.answers[program.id] = Answer(program=program, ok=True, how="it is over, and needs none")
            elif not is_alive(program.key, self._proc):
                self.answers[program.id] = Answer(program=program, ok=False, how="it has ended")

    def _answer(self, program: Program) -> Answer:
        path = self._folder / f"answer-{program.id}.json"
        try:
            said = json.loads(path.read_text())
            ok, how = said["ok"] is True, str(said["text"])[:_TEXT_MAX]
        except (OSError, ValueError, KeyError, TypeError):
            ok, how = True, ""
        _remove(path)
        return Answer(program=program, ok=ok, how=how or ("saved" if ok else "it could not"))

    def _request(self, program: Program) -> Path:
        return self._folder / f"checkpoint-{program.id}.json"

    def _tell(self, until_s: float) -> None:
        said = {
            "boot_key": self._boot_key,
            "from_s": self._from_s,
            "until_s": until_s,
            "processes": [list(program.key) for program in self._wanted],
        }
        write_atomically(self._folder / ASKED_FILE, json.dumps(said))


def now_s() -> float:
    """The instant of now, CLOCK_BOOTTIME seconds, as the daemon's clock has it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_alive(key: Key, proc: Path = Path("/proc")) -> bool:
    """Whether this very process lives; field 22 of proc_pid_stat(5) tells it from a later one of the same PID."""
    try:
        content = (proc / str(key[0]) / "stat").read_bytes()
        fields = content[content.rindex(b")") + 1 :].split()
        return fields[0] not in {b"Z", b"X", b"x"} and int(fields[19]) == key[1]
    except (OSError, ValueError, IndexError):
        return False


def _program(path: Path) -> Program | None:
    """What a program has written; None where it makes no sense."""
    try:
        said = json.loads(path.read_text())
        id_, key = str(said["id"]), (int(said["pid"]), int(said["pid_started"]))
        who, reason = str(said["who"]), str(said["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if path.name != f"ask-{id_}.json":
        return None
    return Program(id=id_, who=who, reason=reason, key=key)


def _rest(seconds: float, progress: Callable[[Json], None]) -> None:
    ends_s, say = time.monotonic() + seconds, seldom(progress)
    while (left_s := ends_s - time.monotonic()) > 0:
        say({"stage": "checkpoint", "settles_s": round(left_s, 1)})
        time.sleep(min(_LOOK_EVERY_S, left_s))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
