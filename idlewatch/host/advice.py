"""What an install can't do by itself, told to the person who can: honestly, and with the line to paste."""

from __future__ import annotations

from idlewatch import version
from idlewatch.host import archive, envfile
from idlewatch.host.install import Plan
from idlewatch.host.machine import Kind, container_command


def after_install(plan: Plan) -> list[str]:
    """What to say at the end, a paragraph each."""
    return [*([_ITSELF] if plan.is_its_own else []), *_left_to_do(plan)]


def _left_to_do(plan: Plan) -> list[str]:
    if plan.kind is Kind.SYSTEMD:
        return [
            f"Settings: {envfile.PLACE} (root only); then `systemctl reload idlewatch`, which refuses wrong ones.",
            "The page is off: `systemctl enable --now idlewatch-web` starts it (docs/web.md).",
        ]
    if archive.brought_back(plan.machine):
        return ["The container's start command brings idlewatch back after a stop. There is nothing left to do."]
    if plan.volume is None:
        return [_WITHOUT_VOLUME, "", _NO_NOTICE]
    line = archive.start_line(plan.volume / archive.ON_VOLUME, container_command(plan.machine))
    return [_TEMPLATE, "", line, "", _LATER, "", _NO_NOTICE]


_ITSELF = (
    f"This is {version.described()}, the one that is installed. For another version run the `install` of that "
    "one: in its checkout `uvx --from . idlewatch install`."
)
_TEMPLATE = (
    "ONE THING IS LEFT, and only you can do it. A stop wipes this container's disk, and idlewatch with it: "
    "after the next start nothing guards this Pod, until its start command brings idlewatch back from the "
    "volume. Set it once, as `Container Start Command` of the template (set on a Pod itself, RunPod resets "
    "that Pod and wipes its disk at once):"
)
_LATER = (
    "It waits a minute at most for the volume, and starts the Pod without idlewatch where the volume hangs. "
    "Whoever can write on the volume can change what it starts; idlewatch in a template image (see the "
    "Dockerfile) is safe from that."
)
_WITHOUT_VOLUME = (
    "This Pod has no volume: a stop wipes its disk, idlewatch with it, and nothing can bring it back at the "
    "next start. Bake it into your template image (see the Dockerfile), or run this again after each start."
)
_NO_NOTICE = (
    "Started like this, idlewatch is not told when RunPod ends the container from outside (an eviction, the "
    "console's Stop): docker-init tells its direct child only. As the container's command, `idlewatch exec` is "
    "told."
)


_BELOW_EXEC = (
    "This container's command is still `idlewatch exec`, which finds no daemon to start. With the next start "
    "the Pod goes on without idlewatch; or, where the image has it inside, with it, until the start command is "
    "another one."
)


def after_uninstall(plan: Plan) -> list[str]:
    """What was left, and why."""
    kept = [f"Kept: {envfile.PLACE}, and on the volume the history and the snapshots; they are yours."]
    if archive.brought_back(plan.machine):
        kept.append(_BELOW_EXEC)
    return kept
