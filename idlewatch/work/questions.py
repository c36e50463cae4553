"""
The owner's questions, asked in a child process: a command of theirs, and a query to their Prometheus.

**A command** says by its exit status: 0 the Pod is in use, 1 it is not, anything else: it could not tell. A last line
of JSON on its output says it in words, and then decides: `{"activity": "active", "reason": "2 renders queued"}`
(active, quiet, unknown or absent). It runs in a shell, in `/`, with the daemon's rights; after its deadline its whole
process tree is ended, also what it put into the background.

**A query** (PromQL) says that the Pod is in use where any of its values is above 0. No value at all is not 0: it is
unknown, as for a misspelt name; `… or vector(0)` says that nothing means nothing.

What either says is shown to people and kept, so known secrets are taken out of it, before it is cut to length.
"""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from idlewatch.errors import TaskError
from idlewatch.model import Activity, Json
from idlewatch.redact import MASK, Redactor, secrets_of_address, shown_address
from idlewatch.settings import known_secrets, pod_sources, secret_variables

_IN_USE, _NOT_IN_USE = 0, 1
_REASON_MAX = 200

Clean = Callable[[str], str]
"""Returns a text without what must not be told."""

_PR_SET_CHILD_SUBREAPER = 36
_ENDED_WITHIN_S = 3.0


def secrets_here() -> frozenset[str]:
    """What is known to be secret in this process and this Pod."""
    return known_secrets(pod_sources())


def run_command(command: str, within_s: float) -> dict[str, Json]:
    """Run the owner's command; returns activity and reason. Raises TaskError where it can't tell."""
    clean, source = Redactor(secrets_here()).clean, pod_sources()[0]
    _adopt_orphans()
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={name: value for name, value in source.variables.items() if name not in secret_variables()},
        text=True,
        errors="replace",
    )
    try:
        out, _ = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        raise TaskError(f"the command did not end within {within_s:.0f} s") from None
    finally:
        _end_all_children()
    return answer_of(process.returncode, out, clean)


def answer_of(status: int, out: str, clean: Clean) -> dict[str, Json]:
    """What an exit status and an output mean, in words that `clean` has seen. Raises TaskError where nothing."""
    last = next((line.strip() for line in reversed(out.splitlines()) if line.strip()), "")
    said = _object(last)
    if said is not None:
        return _stated(said, clean)
    last = clean(last)
    if status in (_IN_USE, _NOT_IN_USE):
        activity = Activity.ACTIVE if status == _IN_USE else Activity.QUIET
        return {"activity": activity.value, "reason": last[:_REASON_MAX] or f"the command ended with {status}"}
    told = f": {last[:_REASON_MAX]}" if last else ""
    how = f"was ended by signal {-status}" if status < 0 else f"ended with {status}, which is neither 0 nor 1"
    raise TaskError(f"the command {how}{told}")


def _object(line: str) -> Mapping[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _stated(said: Mapping[str, Any], clean: Clean) -> dict[str, Json]:
    known = [activity.value for activity in Activity]
    if said.get("activity") not in known:
        raise TaskError(f"the command's JSON has no `activity` among {', '.join(known)}")
    if said["activity"] == Activity.UNKNOWN:
        raise TaskError(clean(str(said.get("reason", "the command can't tell")))[:_REASON_MAX])
    return {"activity": said["activity"], "reason": clean(str(said.get("reason", "so the command says")))[:_REASON_MAX]}


def _adopt_orphans() -> None:
    """What the command leaves in the background becomes our child, so that it is found and ended with it (prctl(2))."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _end_all_children() -> None:
    import psutil

    ends_s = time.monotonic() + _ENDED_WITHIN_S
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < ends_s:
        for one in left:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=0.5)


def ask_prometheus(url: str, query: str, within_s: float) -> dict[str, Json]:
    """Ask the owner's Prometheus; returns activity and reason. Raises TaskError where it can't tell."""
    import httpx

    where, clean = shown_address(url), Redactor({*secrets_here(), *secrets_of_address(url)}).clean
    if MASK in url:
        raise TaskError(f"the whole address of Prometheus at {where} is not known here, only what is shown of it")
    try:
        with httpx.Client(timeout=within_s, trust_env=False) as client:
            reply = client.get(_query_address(url, query))
            said = reply.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TaskError(clean(f"Prometheus at {where} can't be asked: {type(error).__name__}: {error}")) from None
    except ValueError:
        raise TaskError(f"Prometheus at {where} answers {reply.status_code}, and no JSON") from None
    return judged_result(said, clean)


def _query_address(url: str, query: str) -> str:
    """The address to ask; parameters that stand in `url`, such as a token, are kept."""
    parts = urlsplit(url)
    asked = "&".join(part for part in (parts.query, urlencode({"query": query})) if part)
    return parts._replace(path=f"{parts.path.rstrip('/')}/api/v1/query", query=asked, fragment="").geturl()


def judged_result(said: Json, clean: Clean) -> dict[str, Json]:
    """What an answer of `/api/v1/query` means, in words that `clean` has seen. Raises TaskError where nothing.

    Source of the shape: Prometheus, HTTP API, "Instant queries".
    """
    if not isinstance(said, dict) or said.get("status") != "success":
        told = said.get("error") if isinstance(said, dict) else None
        raise TaskError(f"Prometheus refuses the query: {clean(str(told or 'no reason given'))[:_REASON_MAX]}")
    values = _values(said.get("data"))
    if not values:
        raise TaskError("the query has no value: a name may be misspelt, or nothing is scraped; `… or vector(0)` helps")
    label, value = max(values, key=lambda one: one[1])
    if value > 0:
        return {"activity": Activity.ACTIVE.value, "reason": f"{clean(label)[:_REASON_MAX]} is {value:g} > 0"}
    return {"activity": Activity.QUIET.value, "reason": f"{len(values)} values, none above 0"}


def _values(data: Json) -> list[tuple[str, float]]:
    if not isinstance(data, dict):
        return []
    kind, result = data.get("resultType"), data.get("result")
    rows: Sequence[Any] = result if isinstance(result, list) else []
    if kind == "scalar":
        rows = [{"metric": {}, "value": result}]
    found = [(_label(row), _number(row)) for row in rows if isinstance(row, dict)]
    return [(label, value) for label, value in found if not math.isnan(value)]


def _label(row: Mapping[str, Any]) -> str:
    metric = row.get("metric")
    told = {str(name): str(value) for name, value in metric.items()} if isinstance(metric, dict) else {}
    name = told.pop("__name__", "the query")
    labels = ",".join(f'{key}="{value}"' for key, value in sorted(told.items()))
    return f"{name}{{{labels}}}" if labels else name


def _number(row: Mapping[str, Any]) -> float:
    value = row.get("value")
    try:
        return float(value[1]) if isinstance(value, list) else math.nan
    except (IndexError, TypeError, ValueError):
        return math.nan
