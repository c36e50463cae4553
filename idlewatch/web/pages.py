"""The pages' HTML. What is live is filled in by script, as text; what stands here from elsewhere is escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.resources import files

from idlewatch import __version__
from idlewatch.durations import format_duration
from idlewatch.history.status import mapping, number
from idlewatch.model import Json
from idlewatch.web.live import RANGES

_MEDIA = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_PLACE = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class Static:
    """One file that the pages load."""

    content: bytes
    media_type: str


def _text(name: str) -> str:
    return files("idlewatch.web").joinpath("html", name).read_text()


STATIC: Mapping[str, Static] = {
    file.name: Static(file.read_bytes(), _MEDIA[file.name.rpartition(".")[2]])
    for file in files("idlewatch.web").joinpath("static").iterdir()
    if file.name.rpartition(".")[2] in _MEDIA
}
"""Read once: no request's path ever becomes a file's."""
_VERSION = hashlib.sha256(b"".join(STATIC[name].content for name in sorted(STATIC))).hexdigest()[:12]
_PAGE, _STOP, _KEEP, _KEEP_STYLE = _text("page.html"), _text("stop.html"), _text("keep.html"), _text("keep.css").strip()
KEEP_STYLE_HASH = base64.b64encode(hashlib.sha256(_KEEP_STYLE.encode()).digest()).decode()
"""What the Content-Security-Policy lets in of the page of a link."""


def _filled(template: str, given: Mapping[str, str]) -> str:
    """`given`: HTML."""
    return _PLACE.sub(lambda place: given[place[1]], template)


def home(csrf: str) -> str:
    """Return the page."""
    ranges = "".join(f'<button type="button" data-range="{name}">{name}</button>' for name in RANGES)
    given = {"version": _VERSION, "version_shown": escape(__version__), "csrf": escape(csrf), "ranges": ranges}
    return _filled(_PAGE, given)


def stop(csrf: str, live: Mapping[str, Json], stop_without_save: bool) -> str:  # noqa: FBT001  (a limit of the policy)
    """Return the page that asks whether the Pod is to be stopped; `live` as `Live.status` tells it."""
    failed = "it is stopped all the same (IDLEWATCH_ON_SAVE_FAILURE=stop)" if stop_without_save else "it stays up"
    status = mapping(live["status"])
    pod = f"<code>{escape(str(status.get('pod_id') or 'this machine'))}</code>"
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in _facts(live, status))
    return _filled(_STOP, {"version": _VERSION, "csrf": escape(csrf), "pod": pod, "facts": facts, "failed": failed})


def _facts(live: Mapping[str, Json], status: Mapping[str, Json]) -> list[str]:
    """What somebody should know who stops it now."""
    if not live["running"]:
        return [f"{live['not_running']}"]
    told = [f"It is {status.get('phase')}: {status.get('reason')}"]
    quiet = f"quiet for {format_duration(number(status.get('idle_for_s')))}"
    if number(status.get("idle_for_s")) and quiet not in told[0]:
        told.append(f"It has been {quiet}")
    busy = [name for name, said in mapping(status.get("signals")).items() if mapping(said).get("activity") == "active"]
    if busy:
        told.append(f"In use, says: {', '.join(busy)}")
    holds = live["holds"]
    if isinstance(holds, list) and holds:
        told.append(f"Holds that a stop overrides: {', '.join(str(mapping(hold).get('who')) for hold in holds)}")
    if status.get("mode") == "observe":
        told.append("The daemon only observes: it would note the request and do nothing")
    return told


def keep(for_s: float, until: datetime) -> str:
    """Return the page of a link in a notice; `until`: when the link ends, in this machine's time."""
    span = format_duration(for_s)
    body = (
        f"<p>This Pod is then not stopped for being idle. The button works once, until {until:%a %H:%M %Z}.</p>"
        f'<form method="post"><input type="hidden" name="keep" value="yes"><button>Keep it for {span}</button></form>'
    )
    return _filled(_KEEP, {"title": f"Keep this Pod for {span}?", "style": _KEEP_STYLE, "body": body})


def told(title: str, text: str) -> str:
    """Return a page that says one thing, to somebody who is not logged in."""
    return _filled(_KEEP, {"title": escape(title), "style": _KEEP_STYLE, "body": f"<p>{escape(text)}</p>"})
