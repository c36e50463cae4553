"""`notify`: where notices go, and a test of each way."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator

from idlewatch import assembly
from idlewatch.children.tasks import Task, TaskEnd, task_starter
from idlewatch.errors import TaskError
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.notify import Notice, Terminals
from idlewatch.notify.channel import WITHIN_S
from idlewatch.pod.assembled import assembled
from idlewatch.telling.announcing import Tells
from idlewatch.verbs.words import loaded, say_text, who

_LISTEN_EVERY_S = 0.05
_SHOWN = re.compile(r"[1-9]\d* clients")
_HINT = (
    "no address is set, or this shell does not know it: IDLEWATCH_NOTIFY is a secret and stands in no file of the"
    " daemon's; run this where the daemon's variables are"
)


def notify(options: argparse.Namespace, people: Tells | None = None) -> bool:
    """
    `idlewatch notify`: `test` is its option. Failed where an address did not take the test, or nobody was reached.

    `people`: those in the Pod; None: its terminals.
    """
    here, clock = assembled(loaded()), MachineClock()
    labels = [address.label for address in assembly.addresses_of(here)]
    if not options.test:
        say_text(
            ["Notices go to every terminal and tmux client of this Pod", *(f"  and to {label}" for label in labels)]
        )
        say_text([] if labels else [_HINT])
        unsendable = assembly.unsendable(here)
        say_text([f"NOT sendable: {unsendable}"] if unsendable else [])
        return unsendable is None
    notice = assembly.words(here, clock.wall).test(who())
    delivery = (people or Terminals()).tell(notice.text)
    say_text([f"terminals: {delivery}"])
    outcomes = dict(_sent(notice, labels, clock))
    say_text([f"{label}: {outcomes[label] or 'taken'}" for label in outcomes])
    say_text([] if labels else [_HINT])
    taken = [label for label in labels if outcomes[label] is None]
    reached = bool(taken or getattr(delivery, "told", ()) or _SHOWN.match(outcomes["tmux"] or ""))
    say_text([] if reached else ["nobody was reached"])
    return reached and len(taken) == len(labels)


def _sent(notice: Notice, labels: list[str], clock: MachineClock) -> Iterator[tuple[str, str | None]]:
    """Send it every way at once; label -> why it was not taken, None where it was."""
    tasks = {label: _begun("send", label, notice, clock.now_s()) for label in labels}
    tasks["tmux"] = _begun("tmux", "tmux", notice, clock.now_s())
    for label, task in tasks.items():
        end = task if isinstance(task, TaskError) else _ended(task, clock)
        yield label, _why(end)


def _begun(name: str, label: str, notice: Notice, now_s: float) -> Task | TaskError:
    request: Json = {"channel": label, "notice": {**notice.as_json(), "left_out": 0}}
    try:
        return task_starter()(name, request, now_s, WITHIN_S)
    except TaskError as error:
        return error


def _ended(task: Task, clock: MachineClock) -> TaskEnd:
    while True:
        end = task.poll(clock.now_s())
        if end is not None:
            return end
        time.sleep(_LISTEN_EVERY_S)


def _why(end: TaskEnd | TaskError) -> str | None:
    if isinstance(end, TaskError):
        return f"NOT taken: {end}"
    if end.error is not None:
        return f"NOT taken: {end.error}"
    said = end.result if isinstance(end.result, dict) else {}
    if "shown" in said:
        return f"{said['shown']} clients shown it"
    return None if said.get("why") is None else f"NOT taken: {said['why']}"
