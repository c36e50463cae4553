"""`loss`, `save`, `snapshots`, `restore`, and the demo of all of it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from idlewatch import assembly
from idlewatch.errors import Refused
from idlewatch.snapshot import RestoreReport, find, measure_loss
from idlewatch.snapshot import restore as bring_back
from idlewatch.snapshot import save as save_now
from idlewatch.snapshot import snapshots as listed
from idlewatch.verbs.words import loaded, say, size, volume


def loss(options: argparse.Namespace) -> bool:
    """`idlewatch loss`."""
    here = assembly.assembled(loaded())
    if here.save_root is None:
        say([json.dumps({"nothing": True}) if options.json else "Nothing: this machine keeps its disk over a stop."])
        return True
    skip = [here.loaded.settings.state_dir, *([here.volume] if here.volume else [])]
    found = measure_loss(here.save_root, skip=skip)
    if options.json:
        say([json.dumps(found.as_json())])
        return True
    where = f"saved to {here.volume} first" if here.volume else f"NOT saved: {here.no_volume_because}"
    say([f"A stop now would wipe {size(found.total_bytes)} in {found.files} files; {where}."])
    say([f"  {size(weight):>9}  {files:>7} files  {path}" for path, weight, files in found.by_folder[:10]])
    say([f"  left out on purpose: {size(weight)} of {rule}" for rule, weight, _ in found.excluded if weight])
    say([f"  can't be read: {path}: {why}" for path, why in found.errors[:10]])
    return True


def save(_options: argparse.Namespace) -> bool:
    """`idlewatch save`."""
    here = assembly.assembled(loaded())
    if here.save_root is None:
        raise Refused("this machine keeps its disk over a stop; there is nothing to save")
    made = save_now(assembly.save_request(here, volume(here), here.save_root), progress=_show_progress)
    say([f"Saved as {made.id}: {size(made.archive_bytes)}, {made.files} files." if made else "Nothing to save."])
    return True


def snapshots(options: argparse.Namespace) -> bool:
    """`idlewatch snapshots`."""
    here = assembly.assembled(loaded())
    found = listed(volume(here), here.pod_name)
    if options.json:
        say([json.dumps([one.as_json() for one in found])])
    else:
        rows = [f"{one.id}  {one.created_at:.19}  {size(one.archive_bytes):>9}  {one.files} files" for one in found]
        say(rows or [f"no snapshot of {here.pod_name} on {here.volume}"])
    return True


def restore(options: argparse.Namespace) -> bool:
    """`idlewatch restore`."""
    here = assembly.assembled(loaded())
    snapshot = find(volume(here), here.pod_name, options.id)
    target = Path(options.into) if options.into else here.save_root or Path(snapshot.root)
    report = bring_back(snapshot, target, dry_run=options.dry_run, overwrite=options.overwrite, progress=_show_progress)
    say([json.dumps(report.as_json())] if options.json else _restored(report))
    return True


def _restored(report: RestoreReport) -> list[str]:
    did = "Would bring back" if report.dry_run else "Brought back"
    what = f"{report.files} files and {report.folders} folders ({size(report.disk_bytes)})"
    return [f"{did} {what} from {report.snapshot}; {report.unchanged} were there already."]


def _show_progress(progress: object) -> None:
    stage, done = getattr(progress, "stage", ""), getattr(progress, "done_bytes", 0)
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{stage} {size(done)}   ")


def demo(_options: argparse.Namespace) -> bool:
    """`idlewatch demo`."""
    from rich.console import Console

    from idlewatch.demo.simulated_pod import play

    return play(Console())
