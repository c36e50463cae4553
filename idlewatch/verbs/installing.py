"""`install`, `uninstall` and `upgrade`: fit idlewatch into this machine; `exec`, as the container's command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from idlewatch.errors import Refused, SettingsError
from idlewatch.host import advice, archive, envfile, exec_command
from idlewatch.host.install import Plan
from idlewatch.host.machine import Kind, Machine, kind_of
from idlewatch.host.steps import carried_out
from idlewatch.settings import Loaded, Source, load, load_what_fits, pod_sources, variable
from idlewatch.snapshot import places, read_mounts
from idlewatch.verbs.words import say, say_text


def install(options: argparse.Namespace, machine: Machine | None = None) -> bool:
    """`idlewatch install` and `upgrade`: `dry_run` and `volume` are its options."""
    here = machine or Machine()
    told = load(_sources(here))  # SettingsError where the daemon would: better now than after the next start
    kind = _kind(here, told)
    volume = None if kind is Kind.SYSTEMD else _checked_volume(options.volume, told.settings.volume)
    plan = Plan(machine=here, kind=kind, volume=volume)
    steps = plan.install()
    _as_root(options)
    say([f"idlewatch {'would be' if options.dry_run else 'is being'} installed here: {plan.kind.value}"])
    carried_out(steps, lambda line: say([line]), dry=options.dry_run)
    for line in ["", *advice.after_install(plan)]:
        (say if line.startswith(archive.PASTED) else say_text)([line])
    return True


def uninstall(options: argparse.Namespace, machine: Machine | None = None) -> bool:
    """`idlewatch uninstall`: `dry_run` and `volume` are its options. Wrong settings keep nobody from it."""
    here = machine or Machine()
    told = load_what_fits(_sources(here))
    volume = _named_volume(options.volume, told.settings.volume) or places.volume("auto", read_mounts())
    plan = Plan(machine=here, kind=_kind(here, told), volume=volume)
    _as_root(options)
    carried_out(plan.uninstall(), lambda line: say([line]), dry=options.dry_run)
    say_text(["", *advice.after_uninstall(plan)])
    return True


def run_command(options: argparse.Namespace) -> bool:
    """`idlewatch exec -- CMD …`, where it was not caught before all of this was loaded."""
    raise SystemExit(exec_command.main(options.command))


def _sources(machine: Machine) -> Sequence[Source]:
    file = Source(name=envfile.PLACE, variables=envfile.read(machine.at(envfile.PLACE)))
    return (*pod_sources(machine.proc, machine.at("/etc/rp_environment")), file)


def _kind(machine: Machine, told: Loaded) -> Kind:
    """By all that the Pod was given."""
    given = {name: value for source in reversed(told.sources) for name, value in source.variables.items() if value}
    return kind_of(machine, given)


def _named_volume(asked: str | None, told: str) -> Path | None:
    """The folder that a person named, here or in the settings."""
    return Path(asked or told) if asked or told != "auto" else None


def _checked_volume(asked: str | None, told: str) -> Path | None:
    """Where the archive can be kept; None: nowhere here. One that was named must be there, and survive a stop."""
    mounts, named = read_mounts(), _named_volume(asked, told)
    if named is None:
        return places.volume("auto", mounts)
    said = f"--volume {named}" if asked else f"{variable('volume')}={named}"
    if not named.is_absolute() or not named.is_dir():
        raise SettingsError([f"{said}: there is no such folder; write it from / on"])
    if not places.survives(named, mounts):
        raise Refused(f"{said} lies on the disk that a stop wipes; name a folder on a mounted volume")
    return named


def _as_root(options: argparse.Namespace) -> None:
    if os.geteuid() != 0 and not options.dry_run:
        raise Refused("only root can install here; --dry-run shows what would be done")
