"""What the child processes do that pass a notice on; their answers hold nothing of an address."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from idlewatch.errors import TaskError
from idlewatch.model import Json
from idlewatch.notify import by_apprise, webhook
from idlewatch.notify.addresses import Address
from idlewatch.notify.tmux import mark_of, show

_TMUX_WITHIN_S = 15.0


def send(known: Iterable[Address], request: Json) -> Json:
    """
    Send one notice (`notice`) to one of the addresses, named by its label (`channel`).

    Returns an object: `why`, in words, where it was not taken; and `retry_after_s` where the other side wants time. A
    request to end this process, which comes when its time is over, is such a reason, too.
    """
    asked = request if isinstance(request, dict) else {}
    address = next((one for one in known if one.label == asked.get("channel")), None)
    if address is None:
        return {"why": "IDLEWATCH_NOTIFY names it no longer"}
    try:
        passed_on = webhook.post if address.webhook else by_apprise.send
        return passed_on(address.url, _notice(asked))
    except TaskError:
        return {"why": "it did not answer in time"}
    except Exception as error:  # noqa: BLE001  (a plugin of a hundred: what it raises may quote the address)
        return {"why": f"it could not be sent ({type(error).__name__})"}


def show_in_tmux(request: Json) -> Json:
    """Show one notice to every tmux client; that there is none is no failure. Returns an object: `shown`, how many."""
    notice = _notice(request if isinstance(request, dict) else {})
    return {"shown": show(f"idlewatch: {notice.get('headline')}", mark_of(notice), within_s=_TMUX_WITHIN_S)}


def _notice(asked: Mapping[str, Json]) -> dict[str, Json]:
    notice = asked.get("notice")
    return notice if isinstance(notice, dict) else {}


def hush() -> None:
    """From now on stderr goes nowhere: a task's last words there are shown, and a library's may hold the address."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
