"""`loss`: what a stop now would wipe, and whether it would be saved first."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from idlewatch.amounts import amount
from idlewatch.doctor.here import child_environment
from idlewatch.doctor.judge_saved import PACKED_SHARE
from idlewatch.doctor.looking import Look, Seen, look_at, looker
from idlewatch.history.status import number
from idlewatch.kernel.own import registered
from idlewatch.pod import losses
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.snapshot import Loss
from idlewatch.snapshot.given import shown
from idlewatch.verbs.restored import NAMED
from idlewatch.verbs.words import loaded, say_json, say_text

_LOOKS_FOR_S = 10.0
"""How long the volume may take to say how much room it has; one that has gone never does."""


def loss(options: argparse.Namespace) -> bool:
    """`idlewatch loss`."""
    here = assembled(loaded())
    if here.save_root is None:
        if options.json:
            say_json({"nothing": True})
        else:
            say_text(["Nothing: this machine keeps its disk over a stop."])
        return True
    with registered(here.loaded.settings.state_dir):
        found = losses.measured(here)
    if options.json:
        say_json(found.as_json())
        return True
    if found.nothing:
        say_text(["A stop now would wipe nothing."])
        return True
    say_text(map(shown, _loss_lines(here, found)))  # a name may hold anything, also what steers a terminal
    return True


def _loss_lines(here: Assembly, found: Loss) -> Iterator[str]:
    yield f"A stop now would wipe {amount(found.total_bytes)} in {found.files} files; {_where(here, found)}."
    for path, weight, files in found.by_folder[:10]:
        yield f"  {amount(weight):>9}  {files:>7} files  {path}"
    yield from _contents(found)
    yield from (f"  left out on purpose: {amount(weight)} of {rule}" for rule, weight, _ in found.excluded if weight)
    yield from (f"  can't be read: {path}: {why}" for path, why in found.errors[:10])
    yield from (f"  note: {text}" for text in found.notes)


def _where(here: Assembly, found: Loss) -> str:
    """Where it would be saved to first, or why it could not be."""
    if here.place is None:
        return f"NOT saved: {here.no_volume_because}"
    looks = [Look(name="volume", within_s=_LOOKS_FOR_S)]
    seen = look_at(looks, looker(child_environment(here.loaded.sources)))["volume"]
    return saved_first(found, seen, str(here.place), limit=here.loaded.settings.save_max_bytes)


def saved_first(found: Loss, seen: Seen, place: str, *, limit: int = 0) -> str:
    """
    Whether it would be saved to `place` first, as far as that can be known beforehand.

    `seen`: how the doctor saw that; `limit`: the most bytes that may be lost, 0: any number.
    """
    said, free = seen.said, seen.said.get("free_bytes")
    tight = isinstance(free, int) and free < found.total_bytes * PACKED_SHARE
    rules = [
        (bool(found.errors), f"{len(found.errors)} can't be read, as named below"),
        (0 < limit < found.total_bytes, f"that is more than IDLEWATCH_SAVE_MAX_BYTES={amount(limit)}"),
        (said.get("there") is False, f"{place} is not there"),
        (said.get("read_only") is True, f"{place} is mounted read-only"),
        (seen.hung and seen.began and "there" not in said, f"{place} does not answer"),
    ]
    why = next((text for broken, text in rules if broken), None)
    if why:
        return f"it can't be saved: {why}"
    if tight and not said.get("snapshots"):
        return f"a save of it hardly fits: {place} has only {amount(number(free))} free"
    room = f", as far as what changed since the last save fits into {amount(number(free))}" if tight else ""
    return f"saved to {place} first{room}"


def _contents(found: Loss) -> Iterator[str]:
    """What it is that would be wiped: packages, models, work that is nowhere else, deletions."""
    told = found.contents
    for kind, parts in (("pip", told.pip), ("conda", told.conda), ("apt", told.apt)):
        if parts:
            more = f" and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
            yield f"  {kind}: {', '.join(f'{part.name} {part.detail}' for part in parts[:NAMED])}{more}"
    for model in told.models[:NAMED]:
        yield f"  model, on the hub if it still has it: {model.name} ({amount(model.disk_bytes)})"
    for repository in [one for one in told.repositories if one.nowhere_else][:NAMED]:
        yield f"  work that is nowhere else: {repository.path}"
    yield from (f"  deleted: {path}" for path in found.deleted[:NAMED])
    if len(found.deleted) > NAMED:
        yield f"  … and {len(found.deleted) - NAMED} deleted paths more; --json names them all"
