"""
`idlewatch exec -- COMMAND`: as the container's command, in the place where the image's own command was.

The command is started as if we were not there: same arguments, environment, folder, streams and terminal. Only its
parent is another: us, who pass on what the container's engine sends (docker-init sends it to its direct child only),
keep the daemon alive beside it, and end with the command and with its exit status. As PID 1 we also reap.

In a Serverless worker there is nothing to guard, RunPod scales those: the command replaces us, and nothing is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from idlewatch.children.interpreter import ours
from idlewatch.host import children
from idlewatch.host.supervisor import Supervisor

USAGE = 2
_WORKER = (b"RUNPOD_ENDPOINT_ID", b"RUNPOD_WEBHOOK_GET_JOB")
"""Set in every Serverless worker (RunPod's Serverless documentation, and its Python package's worker.py)."""
_RESTORE, _BRINGS_BACK = b"IDLEWATCH_RESTORE", (b"", b"auto")
"""Read here without `settings`, which take 20 MB in what stays in memory: whether files are brought back first."""


def main(arguments: Sequence[str]) -> int:
    """`arguments`: what follows `exec`. Return the exit status: the command's, or 2 where there is none."""
    command = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if not command or command[0].startswith("-"):
        children.say("idlewatch: exec: there is no command; write idlewatch exec -- /start.sh")
        return USAGE
    variables = children.variables() or {}
    worker = in_worker(variables)
    if worker:
        children.say(f"idlewatch exec: a Serverless worker ({worker} is set): RunPod scales it; idlewatch stays away")
        return children.replaced_by(command)
    before = ours("idlewatch.host.boot") if variables.get(_RESTORE, b"").strip().lower() in _BRINGS_BACK else None
    return Supervisor(daemon_command(), command, name="idlewatch exec", before=before).run()


def in_worker(environment: Mapping[bytes, bytes] | None) -> str | None:
    """The variable that says that this is a Serverless worker; None elsewhere."""
    found = [name.decode() for name in _WORKER if (environment or {}).get(name)]
    return found[0] if found else None


def daemon_command() -> list[str]:
    """The daemon, in the interpreter that runs this."""
    return ours("idlewatch", "run")
