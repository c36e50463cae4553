"""
What `install` and `uninstall` do, as steps, for each kind of machine; and what they have to tell people at the end.

Everywhere: the tool in a folder of its own, so that it stays when the user's Python changes. Then whoever starts
services here is told of the daemon. Files of other people are added to, and what they set is never overwritten.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from idlewatch.errors import Refused
from idlewatch.host import archive, beside, envfile, marked, running, tree
from idlewatch.host.machine import Kind, Machine
from idlewatch.host.steps import Step, remove, write, write_new

UNIT = "/etc/systemd/system/idlewatch.service"
WEB_UNIT = "/etc/systemd/system/idlewatch-web.service"
"""Of the page: there, and off until a person wants it."""
PROGRAM = "/etc/supervisor/conf.d/idlewatch.conf"
HOOK, START = "/post_start.sh", "/start.sh"
_UNITS = (UNIT, WEB_UNIT)
_HOOK_LINES = f"""\
# Added by `idlewatch install`, taken out by `idlewatch uninstall`. It returns at once, and never fails.
if [ -x {tree.PLACE}/bin/idlewatch-beside ]; then {tree.PLACE}/bin/idlewatch-beside </dev/null || true; fi
"""
_PROGRAM = f"""\
; Written by `idlewatch install`. Wrong settings (2) and a refusal (3) stay as they are until a person does something.
[program:idlewatch]
command={tree.PLACE}/bin/python -I -m idlewatch run
autostart=true
autorestart=unexpected
exitcodes=2,3
startsecs=10
startretries=1000000
stopwaitsecs=30
redirect_stderr=true
stdout_logfile=/var/log/idlewatch.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where, and what is known of it."""

    machine: Machine
    kind: Kind
    volume: Path | None
    """Where the archive is kept; None: nothing here survives a stop."""
    lay: Callable[[Path], None] = tree.lay_here
    """Puts the tool into its folder."""

    def install(self) -> list[Step]:
        """The steps, in order. Raises Refused where nothing can be installed."""
        self._refuse()
        return [*self._tool(), *self._services(), *self._archive(), *self._start()]

    def uninstall(self) -> list[Step]:
        """The steps back. Settings, history and snapshots stay: they are the owner's."""
        machine = self.machine
        ours = [remove(machine.at(path)) for path in (*_UNITS, PROGRAM)]
        steps = [*self._end(), *ours, *self._unhook()]
        if self.kind is Kind.SYSTEMD:
            steps.append(_command(machine, ["systemctl", "daemon-reload"]))
        if self.kind is Kind.SUPERVISORD:
            steps.append(_command(machine, ["supervisorctl", "update"]))
        if self.volume:
            steps.append(remove(self.volume / archive.ON_VOLUME))
        if _is_ours(machine.at(tree.LINK)):
            steps.append(remove(machine.at(tree.LINK)))
        place = machine.at(tree.PLACE)
        return [*steps, Step(says=f"remove {place}", act=self._remove_tool, needed=place.exists())]

    def _remove_tool(self) -> None:
        shutil.rmtree(self.machine.at(tree.PLACE))
        running.ask(running.daemons(self.machine), signal.SIGTERM)  # one that `exec` has started meanwhile

    @property
    def is_its_own(self) -> bool:
        """Whether what is installed runs this: it can't be laid anew from itself, and need not be."""
        return tree.runs_from(self.machine.at(tree.PLACE))

    def _refuse(self) -> None:
        if self.kind is Kind.WORKER:
            raise Refused("a Serverless worker is scaled by RunPod; idlewatch has nothing to do here, and stays away")
        if self.kind is Kind.UNKNOWN:
            raise Refused(
                "this is no RunPod Pod: no RUNPOD_POD_ID in the environment, in PID 1's, in /etc/rp_environment or in "
                f"{envfile.PLACE}. Possible here: `idlewatch demo`, `idlewatch run --observe`; for a template image "
                "see the Dockerfile"
            )

    def _tool(self) -> list[Step]:
        place, link = self.machine.at(tree.PLACE), self.machine.at(tree.LINK)
        interpreter, carried = tree.interpreter_here()
        words = "the tool, with its interpreter" if carried else f"the tool, for {interpreter}"
        laid = Step(says=f"lay {words}, into {place}", act=lambda: self.lay(place), needed=not self.is_its_own)
        linked = Step(says=f"link {link}", act=lambda: _link(link), needed=not _is_ours(link))
        return [laid] if link.exists() and not _is_ours(link) else [laid, linked]

    def _services(self) -> list[Step]:
        machine = self.machine
        if self.kind is Kind.SYSTEMD:
            return [
                *(write(machine.at(unit), (Path(__file__).parent / Path(unit).name).read_text()) for unit in _UNITS),
                write_new(machine.at(envfile.PLACE), envfile.rendered(), mode=0o600),
                _command(machine, ["systemctl", "daemon-reload"]),
            ]
        if self.kind is Kind.SUPERVISORD:
            return [write(machine.at(PROGRAM), _PROGRAM)]
        if not self._has_hook():
            return []
        hook = machine.at(HOOK)
        before = hook.read_text() if hook.exists() else ""
        mode = hook.stat().st_mode & 0o7777 if hook.exists() else 0o755
        return [write(hook, marked.with_block(before, _HOOK_LINES), mode=mode, says=f"add idlewatch to {hook}")]

    def _has_hook(self) -> bool:
        """Whether the image's start script runs `/post_start.sh`, as RunPod's do."""
        start = self.machine.at(START)
        return start.exists() and HOOK in start.read_text(errors="replace")

    def _archive(self) -> list[Step]:
        if self.kind is Kind.SYSTEMD or self.volume is None:
            return []
        kept, place = self.volume / archive.ON_VOLUME, self.machine.at(tree.PLACE)
        return [Step(says=f"keep it on the volume, as {kept}", act=lambda: archive.keep(place, kept))]

    def _start(self) -> list[Step]:
        machine = self.machine
        if self.kind is Kind.SYSTEMD:
            return [
                _command(machine, ["systemctl", "enable", "idlewatch.service"]),
                _command(machine, ["systemctl", "restart", "idlewatch.service"]),
                _command(machine, ["systemctl", "try-restart", "idlewatch-web.service"]),
            ]
        if self.kind is Kind.SUPERVISORD:
            return [
                _command(machine, ["supervisorctl", "update"]),
                _command(machine, ["supervisorctl", "restart", "idlewatch"]),
            ]
        if running.exec_pids(machine):
            act = lambda: running.ask(running.daemons(machine), signal.SIGTERM)  # noqa: E731
            return [Step(says="start the daemon anew: `idlewatch exec` does that within seconds", act=act)]
        return [*self._end(), Step(says="start the daemon, kept alive", act=lambda: running.start_beside(machine))]

    def _end(self) -> list[Step]:
        machine = self.machine
        if self.kind is Kind.SYSTEMD:
            there = [Path(unit).name for unit in _UNITS if machine.at(unit).exists()]
            return [_command(machine, ["systemctl", "disable", "--now", *there], needed=bool(there))]
        if self.kind is Kind.SUPERVISORD:
            return []
        supervisor = beside.running(str(machine.at(beside.LOCK)))
        ends = running.daemons(machine) if supervisor is None else [supervisor]
        return [Step(says="end the daemon that runs", act=lambda: running.end(ends))] if ends else []

    def _unhook(self) -> list[Step]:
        hook = self.machine.at(HOOK)
        text = hook.read_text() if hook.exists() else ""
        rest = marked.without(text)
        if rest == marked.SHEBANG:
            return [remove(hook)]
        mode = hook.stat().st_mode & 0o7777 if hook.exists() else 0o755
        return [write(hook, rest, mode=mode, says=f"take idlewatch out of {hook}")] if rest != text else []


def _command(machine: Machine, command: list[str], *, needed: bool = True) -> Step:
    return Step(says=f"run {' '.join(command)}", act=lambda: machine.run(command), needed=needed)


def _is_ours(link: Path) -> bool:
    return link.is_symlink() and str(link.readlink()).startswith(f"{tree.PLACE}/")


def _link(link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(f"{tree.PLACE}/bin/idlewatch")
