"""`install`, `uninstall` and `upgrade`: fit idlewatch into this machine; `exec`, as the container's command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from idlewatch.errors import Refused, SettingsError
from idlewatch.host import advice, envfile, exec_command
from idlewatch.host.install import SETTINGS, Plan
from idlewatch.host.machine import Machine, kind_of
from idlewatch.host.steps import carried_out
from idlewatch.settings import Source, load, pod_sources
from idlewatch.snapshot import places, read_mounts
from idlewatch.verbs.words import say


def install(options: argparse.Namespace, machine: Machine | None = None) -> bool:
    """`idlewatch install` and `upgrade`: `dry_run` and `volume` are its options."""
    plan = plan_of(options, machine or Machine())
    steps = plan.install()
    _as_root(options)
    say([f"idlewatch {'would be' if options.dry_run else 'is being'} installed here: {plan.kind.value}"])
    carried_out(steps, lambda line: say([line]), dry=options.dry_run)
    say(["", *advice.after_install(plan)])
    return True


def uninstall(options: argparse.Namespace, machine: Machine | None = None) -> bool:
    """`idlewatch uninstall`: `dry_run` and `volume` are its options."""
    plan = plan_of(options, machine or Machine())
    _as_root(options)
    carried_out(plan.uninstall(), lambda line: say([line]), dry=options.dry_run)
    say(["", *advice.after_uninstall(plan)])
    return True


def run_command(options: argparse.Namespace) -> bool:
    """`idlewatch exec -- CMD …`, where it was not caught before all of this was loaded."""
    raise SystemExit(exec_command.main(options.command))


def plan_of(options: argparse.Namespace, machine: Machine) -> Plan:
    """Look where we are. Raises SettingsError where the daemon would: better now than after the next start."""
    sources = (*_sources(machine), Source(name=SETTINGS, variables=envfile.read(machine.at(SETTINGS))))
    told = load(sources)
    variables = {name: value for source in reversed(sources) for name, value in source.variables.items() if value}
    volume = _volume(options.volume, told.settings.volume)
    return Plan(machine=machine, kind=kind_of(machine, variables), volume=volume)


def _sources(machine: Machine) -> Sequence[Source]:
    return pod_sources(machine.proc, machine.at("/etc/rp_environment"))


def _volume(asked: str | None, told: str) -> Path | None:
    mounts = read_mounts()
    if asked is None:
        return places.volume(told, mounts)
    volume = Path(asked)
    if not volume.is_absolute() or not volume.is_dir():
        raise SettingsError([f"--volume {asked}: there is no such folder; write it from / on"])
    if not places.survives(volume, mounts):
        raise Refused(f"--volume {asked} lies on the disk that a stop wipes; name a folder on a mounted volume")
    return volume


def _as_root(options: argparse.Namespace) -> None:
    if os.geteuid() != 0 and not options.dry_run:
        raise Refused("only root can install here; --dry-run shows what would be done")
