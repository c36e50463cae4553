"""What is done again and again while a Pod is watched, in child processes."""

from __future__ import annotations

from dataclasses import replace

from idlewatch import assembly
from idlewatch.children.tasks import Progress
from idlewatch.errors import TaskError
from idlewatch.history.store import status_of
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Json
from idlewatch.pod.assembled import assembled_here
from idlewatch.pod.saving import save_request, with_key
from idlewatch.report import advice_of
from idlewatch.snapshot import be_gentle
from idlewatch.snapshot import save as save_now
from idlewatch.telling import heartbeat
from idlewatch.telling import passing_on as telling
from idlewatch.work.boot_history import keep_history
from idlewatch.work.questions import ask_prometheus, run_command


def save_again(_request: Json, progress: Progress) -> Json:
    """Save while the Pod is in use: no hook runs and nobody is asked for anything. What changes meanwhile is left."""
    here = assembled_here()
    if here.save_root is None or here.place is None:
        raise TaskError(here.no_volume_because)
    be_gentle()
    request = replace(with_key(here, save_request(here, here.save_root)), trust_untouched=True)
    made = save_now(request, progress=lambda p: progress(p.as_json()))
    if made is None:
        return {"snapshot": None, "text": "nothing that a stop would wipe"}
    return {"snapshot": made.id, "text": f"saved {made.words}"}


def archive(_request: Json, _progress: Progress) -> Json:
    """Write this boot's history to the volume."""
    here = assembled_here()
    if here.volume is None:
        raise TaskError(here.no_volume_because)
    return {"path": str(keep_history(here, here.volume))}


def advise(_request: Json, _progress: Progress) -> Json:
    """Look for waste that is not idleness in this start's history."""
    be_gentle()
    state_dir, now_s = assembled_here().loaded.settings.state_dir, MachineClock().now_s()
    price = (status_of(state_dir) or {}).get("usd_per_hour")
    found = advice_of(state_dir, now_s, float(price) if isinstance(price, int | float) and price else None)
    return {"advice": [one.as_json() for one in found]}


def beat(_request: Json, _progress: Progress) -> Json:
    """Leave a sign of life on the volume."""
    here = assembled_here()
    return heartbeat.write(here, here.loaded.settings.heartbeat_every.total_seconds())


def ping(_request: Json, _progress: Progress) -> Json:
    """Give a sign of life to the address that is set."""
    telling.hush()
    here = assembled_here()
    return heartbeat.ping(here, here.loaded.settings.heartbeat_url.get_secret_value())


def command(request: Json, _progress: Progress) -> Json:
    """Ask the owner's command."""
    asked = request if isinstance(request, dict) else {}
    return run_command(str(asked.get("command")), float(str(asked.get("within_s"))))


def promql(request: Json, _progress: Progress) -> Json:
    """Ask the owner's Prometheus."""
    asked = request if isinstance(request, dict) else {}
    return ask_prometheus(str(asked.get("url")), str(asked.get("query")), float(str(asked.get("within_s"))))


def send(request: Json, _progress: Progress) -> Json:
    """Pass one notice on to one address of IDLEWATCH_NOTIFY."""
    telling.hush()
    return telling.send(assembly.addresses_of(assembled_here()), request)


def tmux(request: Json, _progress: Progress) -> Json:
    """Show one notice in tmux."""
    return telling.show_in_tmux(request)
