"""Judges who would hear of a stop, whether a daemon watches, and what starts it the next time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from idlewatch.doctor.here import Here
from idlewatch.doctor.lines import Group, Line, Lines
from idlewatch.doctor.looking import Seen
from idlewatch.durations import format_duration
from idlewatch.model import Json
from idlewatch.settings import Mode

_TOLD, _STARTED = Lines(Group.TOLD), Lines(Group.STARTED)

_NOTIFY = "IDLEWATCH_NOTIFY"
_CHANNEL = (
    "set one in IDLEWATCH_NOTIFY (a webhook, mail, …: docs/notices.md); without it only terminals that are open then, "
    "and the next login, are told"
)
_TRY = "`idlewatch notify --test`"
_MEND_CHANNEL = f"correct it, start the daemon anew, and try it: {_TRY}; docs/notices.md has the ways"
_OBSERVES = "it only observes: it decides and records, and will stop nothing"
_WOULD_OBSERVE = "would only observe: decide and record, and stop nothing"
_TEMPLATE = "`idlewatch install` sets up all it can, and prints the one line that only you can put into the template"


def told_lines(here: Here, machine: Seen, asked: Seen) -> Iterator[Line]:
    """Who would be warned now; channels are told by their schemes only, their addresses hold secrets."""
    if not here.is_pod:
        return
    channels = here.channels
    listed = machine.said.get("terminals")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    if names:
        yield _TOLD.ok("terminals", f"{_count(len(names), 'terminal')} would be told now: {', '.join(names[:8])}")
    if asked.said.get("unsendable"):
        yield _TOLD.broken("channels", str(asked.said["unsendable"]), _MEND_CHANNEL)
    elif asked.missing:
        yield _TOLD.unproven("channels", f"whether {', '.join(channels)} can be told: {asked.missing}", _TRY)
    elif channels:
        yield _TOLD.ok("channels", f"{_count(len(channels), 'channel')} would be told: {', '.join(channels)}")
    unknown = not channels and _NOTIFY in here.unknown_secrets
    if unknown:
        yield _TOLD.ok("channels", f"the daemon has a channel that this shell does not know ({_NOTIFY} is a secret)")
    if not names and not channels and not unknown:
        text = "nobody would hear a warning now: no terminal is open and no channel is set"
        yield _TOLD.warning("terminals", text, _CHANNEL)
    yield from _login(machine.said.get("login", False))


def _login(login: Json) -> Iterator[Line]:
    if login is None:
        text = "a login shows nothing here: there is no /etc/profile.d"
        yield _TOLD.warning("login", text, "`idlewatch status` tells the same")
    elif login:
        yield _TOLD.ok("login", "who logs in is told why the Pod was stopped, by /etc/profile.d/idlewatch.sh")


def started_lines(here: Here, machine: Seen) -> Iterator[Line]:
    """The daemon, what it may do, and what starts it; where nothing is ever stopped no daemon is missed."""
    if not here.is_pod and not here.running:
        return
    yield _daemon(here, machine.said.get("daemon_pid"))
    mode = str(here.status.get("mode")) if here.running and here.status else here.loaded.settings.mode.value
    if mode == Mode.OBSERVE:
        text = _OBSERVES if here.running else f"a daemon that is started with these settings {_WOULD_OBSERVE}"
        yield _STARTED.warning("mode", text, "IDLEWATCH_MODE=stop (and no --observe) once its decisions are right")
    if machine.said:
        yield _starter(here, machine.said)


def _daemon(here: Here, pid: Json) -> Line:
    start = "`idlewatch install` starts it and keeps it alive; `idlewatch run` runs it here"
    if here.running:
        runs = f" as process {pid}" if pid else ""
        return _STARTED.ok("daemon", f"the daemon runs{runs} and looked {max(0.0, here.age_s):.0f} s ago")
    if pid:
        text = f"the daemon runs as process {pid} but does not tick{_ago(here)}: it hangs, or has just been started"
        return _STARTED.broken("daemon", text, f"look again in a minute; if it is still so, end process {pid}; {start}")
    status = here.status
    if status is None and here.unreadable:
        text = f"whether a daemon watches can't be seen: this user can't read {here.unreadable}"
        return _STARTED.unproven("daemon", text, "run this as root")
    if status is None:
        return _STARTED.broken("daemon", "no daemon has watched here since this start: nothing guards this Pod", start)
    problems = status.get("problems")
    if isinstance(problems, list):
        text = f"the daemon refused to start, its settings are wrong: {'; '.join(map(str, problems))}"
        return _STARTED.broken("daemon", text, "correct them and start it again")
    ended = "was asked to end" if status.get("ended") else "is not running"
    return _STARTED.broken("daemon", f"the daemon {ended}{_ago(here)}: nothing guards this Pod", start)


def _ago(here: Here) -> str:
    if here.status is None:
        return ""
    return f", last looked {format_duration(here.age_s)} ago" if here.age_s >= 0 else ", last looked in an earlier boot"


def _starter(here: Here, said: Mapping[str, Json]) -> Line:
    """What starts it with the next start of this Pod or machine. Only what names idlewatch counts."""
    hooks = said.get("starts")
    named = [str(path) for path in hooks] if isinstance(hooks, list) else []
    wiped = said.get("wiped")
    if named and isinstance(wiped, list) and set(named) <= set(map(str, wiped)):
        text = f"{', '.join(named)} starts it, but was written since this Pod started: a stop wipes that"
        return _STARTED.warning("starter", text, _TEMPLATE)
    if named:
        return _STARTED.ok("starter", f"{', '.join(named)} starts it with this Pod")
    if said.get("systemd") and said.get("unit"):
        if said.get("enabled"):
            return _STARTED.ok("starter", f"systemd starts it: {said['unit']}")
        return _STARTED.warning("starter", f"systemd knows {said['unit']}, not enabled", "systemctl enable idlewatch")
    by_hand = "the daemon that runs was started by hand, and " if here.running else ""
    text = f"{by_hand}nothing starts it with the next start of this Pod"
    return _STARTED.warning("starter", text, _TEMPLATE)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
