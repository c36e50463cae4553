"""`save`, `snapshots`, `restore`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from idlewatch.amounts import amount
from idlewatch.assembly.acting import refuse_misplaced_key
from idlewatch.durations import format_duration
from idlewatch.errors import Refused, SnapshotError
from idlewatch.history import timeline
from idlewatch.host import restoring
from idlewatch.kernel.own import registered
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.pod import elsewhere
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.pod.saving import save_request, with_key
from idlewatch.snapshot import (
    DamagedArchive,
    Kept,
    Place,
    Progress,
    Snapshot,
    places,
    read_mounts,
    unusable_text,
)
from idlewatch.snapshot import kept as kept_of
from idlewatch.snapshot import restore as bring_back
from idlewatch.snapshot import save as save_now
from idlewatch.verbs.faults import remedy
from idlewatch.verbs.restored import NAMED, missing, restored_lines
from idlewatch.verbs.words import loaded, place, say_json, say_text, who


def save(options: argparse.Namespace) -> bool:
    """`idlewatch save`."""
    here = assembled(loaded())
    if here.save_root is None:
        raise Refused("this machine keeps its disk over a stop; there is nothing to save")
    refuse_misplaced_key(here)
    kept = place(here)
    if isinstance(kept, Path) and (away := places.leads_away(kept, read_mounts())):
        raise Refused(away)
    with _progress_shown(), _helped(kept), registered(here.loaded.settings.state_dir):
        request = with_key(here, save_request(here, here.save_root))
        made = save_now(request, progress=_show_progress)
    told = (
        f"Saved as {made.id}: {amount(made.archive_bytes)}, {made.files} files{made.caveat}."
        if made
        else "Nothing to save."
    )
    _leave(here, timeline.SAVED_BY_HAND, told, {"snapshot": made.id if made else None})
    if options.json:
        say_json({"saved": made is not None, "place": str(kept), "snapshot": _row(made) if made else None})
    else:
        say_text([told])
    return True


def _leave(here: Assembly, kind: str, text: str, facts: Mapping[str, Json]) -> None:
    """For the daemon's timeline."""
    facts = {**facts, "who": who()}
    text = f"{text.rstrip('.')} (by {who()})"
    timeline.leave(here.loaded.settings.state_dir, kind, text, MachineClock().wall(), facts)


def snapshots(options: argparse.Namespace) -> bool:
    """`idlewatch snapshots`."""
    here = assembled(loaded())
    kept, pod_name = place(here), options.pod or here.pod_name
    found = kept_of(kept, pod_name)
    if options.json:
        unusable: list[Json] = [{"id": one, "why": why} for one, why in found.unusable.items()]
        say_json({"snapshots": [_row(one) for one in found.whole], "unusable": unusable})
        return True
    rows = [f"{one.id}  {one.created_at:.19}  {amount(one.archive_bytes):>9}  {one.files} files" for one in found.whole]
    none = f"no snapshot of {pod_name} on {kept}" + (" that can be used" if found.unusable else "")
    unusable_too = [text for text in [unusable_text(found.unusable)] if text]
    say_text([*(rows or [none]), *unusable_too, *_of_others(kept, pod_name)])
    return True


def _row(snapshot: Snapshot) -> dict[str, Json]:
    """The manifest; of an encrypted one without what its key would open, which nobody can read here."""
    values = {name: value for name, value in snapshot.as_json().items() if name != "locked"}
    return {**values, "encrypted": snapshot.locked is not None}


def _of_others(kept: Place, pod_name: str) -> Iterator[str]:
    """What other Pods have left in the same place: a new Pod may want it, and it takes room for as long as it lies."""
    for other in elsewhere.others(kept, pod_name):
        copies = f"{len(other.copies)} of Pod {other.pod}, {amount(other.archive_bytes)}"
        yield f"  {copies}, the newest of {other.newest.created_at:.16}: idlewatch snapshots --pod {other.pod}"


def restore(options: argparse.Namespace) -> bool:
    """`idlewatch restore`: done where all that was asked for is back. Raises SnapshotError where something is not."""
    here = assembled(loaded())
    found = kept_of(place(here), options.pod or here.pod_name)
    snapshot = _chosen(place(here), found, here.pod_name, options)
    target = _target(options.into, here.save_root or Path(snapshot.root))
    with (
        _progress_shown(),
        _helped(target),
        _others_told(found, options.pod),
        _interrupted_told(),
    ):  # a person waits for this: it is use
        report = bring_back(
            snapshot,
            target,
            dry_run=options.dry_run,
            only=_below(options.only, Path(snapshot.root), target),
            overwrite=options.overwrite,
            state_dir=here.loaded.settings.state_dir,
            key=here.loaded.settings.key(),
            progress=_show_progress,
        )
    if not (options.dry_run or options.into or options.only or report.in_the_way):
        restoring.done(here, report, options.pod)
    if not options.dry_run:
        _leave(here, timeline.RESTORED, restored_lines(report)[0], {"snapshot": report.snapshot})
    if options.json:
        say_json(report.as_json())
    else:
        say_text(restored_lines(report))
    if not report.whole:
        raise SnapshotError(missing(report))
    return True


def _below(wanted: Sequence[str], root: Path, target: Path) -> list[str] | None:
    """
    Paths as they stand in the snapshot: from its root on; None: all of it. Raises Refused for one beside it.

    Below `target` a path is one that a restore into it has told of.
    """
    paths = [Path(path).expanduser().absolute() for path in wanted]
    into = target.absolute()
    found = [root / path.relative_to(into) if path.is_relative_to(into) else path for path in paths]
    if root in found:
        return None
    beside = [path for path in found if not path.is_relative_to(root)]
    if beside:
        raise Refused(f"--only {beside[0]} does not lie below {root}, which the snapshot was made of")
    return [str(path.relative_to(root)) for path in found] or None


def _chosen(kept: Place, found: Kept, own_name: str, options: argparse.Namespace) -> Snapshot:
    """
    Raises SnapshotError where none fits, or more than one, with the way out.

    An older one than the newest is taken only by its id: who asked for the newest expects what that holds.
    """
    pod_name, wanted = options.pod or own_name, options.id
    broken = {one: why for one, why in found.unusable.items() if wanted is not None and one.startswith(wanted)}
    if wanted is None:
        broken = dict(found.newer_unusable)
    fitting = found.whole[:1] if wanted is None else [one for one in found.whole if one.id.startswith(wanted)]
    if broken and (wanted is None or not fitting):
        raise SnapshotError(f"{unusable_text(broken)}; {_instead(found.whole, options.pod)}")
    if not found.whole:
        others = elsewhere.others(kept, pod_name)
        way = f"another Pod's are there: `{others[0].command}`" if others else "`idlewatch save` makes one"
        raise SnapshotError(f"there is no snapshot of {pod_name} on {kept}; {way}")
    if not fitting:
        raise SnapshotError(f"no snapshot of {pod_name} begins with {wanted!r}; `idlewatch snapshots` lists them")
    if len(fitting) > 1:
        several = ", ".join(one.id for one in fitting[:NAMED])
        raise SnapshotError(
            f"{len(fitting)} snapshots begin with {wanted!r}: {several}; write more of the one you mean"
        )
    return fitting[0]


def _instead(others: Sequence[Snapshot], pod: str | None) -> str:
    """What can be had where one can't: the newest of `others`, with its command."""
    if not others:
        return "there is no other one; docs/snapshots.md tells what can be tried by hand"
    of = f" --pod {pod}" if pod else ""
    return f"`idlewatch restore {others[0].id}{of}` brings back the one of {others[0].created_at:.16}"


@contextmanager
def _others_told(found: Kept, pod: str | None) -> Iterator[None]:
    """Where the archive turns out to be damaged: say which of the others need none of it."""
    try:
        yield
    except DamagedArchive as error:
        apart = [one for one in found.whole if error.snapshot_id not in {one.id, one.base}]
        raise SnapshotError(f"{error}, so nothing was touched; {_instead(apart, pod)}") from error


def _target(told: str | None, usual: Path) -> Path:
    target = usual if told is None else Path(told)
    if target.is_dir():
        return target
    if target.exists():
        raise Refused(f"can't restore into {target}: it is no folder")
    nothing = f"can't restore into {target}: there is no such folder"
    if not target.parent.is_dir() or _is_of_the_kernel(target):
        raise Refused(f"{nothing}; name one that is there")
    raise Refused(f"{nothing}; make it first: mkdir -p {target}")


def _is_of_the_kernel(path: Path) -> bool:
    """Whether a path lies where nobody keeps files."""
    return any(path.absolute().is_relative_to(top) for top in ("/proc", "/sys", "/dev"))


@contextmanager
def _helped(folder: Place) -> Iterator[None]:
    """Say what helps where `folder` had no room for what the block writes, or was closed to it."""
    try:
        yield
    except SnapshotError as error:
        help_ = remedy(error.__cause__, folder) if isinstance(folder, Path) else None
        if help_:
            raise SnapshotError(f"{error}; {help_}") from error
        raise


@contextmanager
def _interrupted_told() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise SnapshotError("interrupted; what is back stays, run it again for the rest") from None


@contextmanager
def _progress_shown() -> Iterator[None]:
    """Progress is one line that is written over; the next one begins on an empty one."""
    try:
        yield
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


def _show_progress(progress: Progress) -> None:
    if not sys.stderr.isatty():
        return
    rate = f", {amount(progress.bytes_s)}/s" if progress.bytes_s else ""
    left = f", {format_duration(progress.left_s)} left" if progress.left_s is not None else ""
    sys.stderr.write(f"\r\x1b[K{progress.stage} {amount(progress.done_bytes)}{rate}{left}")


def demo(_options: argparse.Namespace) -> bool:
    """`idlewatch demo`."""
    from rich.console import Console

    from idlewatch.demo.simulated_pod import play

    return play(Console())
