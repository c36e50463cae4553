"""
What an answer of RunPod's API proves. Pure: no I/O, no clock.

Only a Pod object that carries the asked id, in the one documented shape, is a yes. All else is a no, for good or for
now, or says something of the Pod's state that only reading it explains. An HTTP 200 alone proves nothing: GraphQL
sends its errors with it, and so do error pages.

Sources: RunPod's OpenAPI of REST v2 (GET /v2/pods/{id}, POST /v2/pods/{id}/action), and the operations in
runpodctl's api/pod.go for GraphQL.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

from idlewatch.model import PodFacts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from idlewatch.model import Json
    from idlewatch.providers.transport import Answer

OVER = frozenset({"EXITED", "TERMINATED"})
"""The words, in both APIs, for a Pod that no longer computes."""

_STATUSES = OVER | {"PROVISIONING", "STARTING", "RUNNING", "ERROR"}
_REST_STATE_CODES = frozenset({400, 409, 422})
_PASSING_CODES = frozenset({408, 425, 429})
_RETRY_AFTER_MAX_S = 3600.0
_DETAIL_MAX_CHARS = 200
_EDGE_BODY = re.compile(rb"error code: (\d{3,4})")
_KEY_SHAPED = re.compile(r"(?i)\brpa_\w+|\bbearer\s+\S{12,}|\bapi_key=[^\s&]+")
# No list of GraphQL's messages is published; a message that is not known here counts as passing.
_FOR_GOOD = re.compile(
    r"(?i)unauthori[sz]ed|unauthenticated|not authori[sz]ed|forbidden|access denied|permission|not found"
    r"|does not exist|invalid api key|locked|can ?not be stopped|can ?not stop|not supported"
    r"|GRAPHQL_VALIDATION_FAILED|BAD_USER_INPUT"
)


class Said(StrEnum):
    """The three things that an answer can amount to."""

    YES = "yes"
    NO = "no"
    STATE = "state"
    """Something about the Pod: only reading it tells what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an answer amounts to, in words without secrets."""

    said: Said
    text: str
    passing: bool = False
    """Whether the same question may be answered otherwise soon."""
    retry_after_s: float | None = None
    already: str | None = None
    """Of a yes: the status, read from the Pod, that left nothing to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRead:
    """The Pod as one API told it."""

    facts: PodFacts
    lock_known: bool
    """Whether that API says at all if the Pod is locked or in a cluster; only REST does."""


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text on one line, printable, of bounded length, without keys and what looks like one."""
    for secret in secrets:
        text = re.sub(re.escape(secret), "[key]", text, flags=re.IGNORECASE)
    text = " ".join(_KEY_SHAPED.sub("[key]", text).split())
    return "".join(c for c in text if c.isprintable())[:_DETAIL_MAX_CHARS]


def rest_pod(answer: Answer, secrets: Iterable[str]) -> PodRead | Verdict:
    """Return the Pod in an answer of REST v2, or what the answer amounts to instead."""
    if answer.status != HTTPStatus.OK:
        return _refusal(answer, secrets, state_codes=_REST_STATE_CODES)
    pod = _object(answer.body)
    read = _rest_read(pod) if pod is not None else None
    return read or Verdict(said=Said.NO, passing=True, text="200 without a Pod in it")


def graphql_pod(answer: Answer, operation: str, secrets: Iterable[str]) -> PodRead | Verdict:
    """Return the Pod in `data.<operation>` of a GraphQL answer, or what the answer amounts to instead."""
    if answer.status != HTTPStatus.OK:
        return _refusal(answer, secrets, state_codes=frozenset({409}))
    document = _object(answer.body)
    if document is None:
        return Verdict(said=Said.NO, passing=True, text="200 without JSON in it")
    if document.get("errors") not in (None, []):
        return _graphql_errors(document["errors"], secrets)
    data = document.get("data")
    if operation == "pod" and data == {"pod": None}:
        return Verdict(said=Said.NO, text="200, but this key sees no such Pod")
    pod = data.get(operation) if isinstance(data, dict) else None
    read = _graphql_read(pod) if isinstance(pod, dict) else None
    return read or Verdict(said=Said.NO, passing=True, text=f"200 without a Pod in data.{operation}")


def retry_after_s(header: str) -> float | None:
    """Return the seconds of a Retry-After, an hour at most; None where it is no whole number of seconds."""
    text = header.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        return None
    return min(float(text), _RETRY_AFTER_MAX_S)


def _refusal(answer: Answer, secrets: Iterable[str], *, state_codes: frozenset[int]) -> Verdict:
    text = redact(_said_in_words(answer), secrets)
    if answer.status in _PASSING_CODES or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Verdict(said=Said.NO, passing=True, text=text, retry_after_s=retry_after_s(answer.retry_after))
    if answer.status == HTTPStatus.GONE:
        return Verdict(said=Said.NO, text=f"{text}; this API has been shut off")
    if answer.status < HTTPStatus.BAD_REQUEST:
        return Verdict(said=Said.NO, passing=True, text=f"{text}, where a Pod was expected; not followed")
    if _is_edge(answer):
        return Verdict(said=Said.NO, passing=True, text=_edge_in_words(answer))
    said = Said.STATE if answer.status in state_codes else Said.NO
    return Verdict(said=said, text=text, passing=answer.status == HTTPStatus.CONFLICT)


def _is_edge(answer: Answer) -> bool:
    """Whether something in front of the API spoke: it answers pages and plain codes, the API problem+json."""
    return (
        "text/html" in answer.content_type.lower()
        or answer.body.lstrip()[:1] == b"<"
        or _EDGE_BODY.search(answer.body[:4096]) is not None
    )


def _edge_in_words(answer: Answer) -> str:
    code = _EDGE_BODY.search(answer.body[:4096])
    what = f"error code: {code[1].decode()}" if code else "an HTML page"
    return f"{answer.status} from the edge in front of the API ({what}), which says nothing about the key"


def _said_in_words(answer: Answer) -> str:
    """`403 Forbidden: access denied`, from problem+json and the older shapes; a body that is no JSON is not quoted."""
    problem = _object(answer.body) or {}
    title = _first_text(problem, ("title",)) or _phrase(answer.status)
    detail = _first_text(problem, ("detail", "message", "error"))
    errors = problem.get("errors")
    more = [e for e in errors if isinstance(e, str)] if isinstance(errors, list) else []
    return f"{answer.status} {title}".rstrip() + "".join(f": {part}" for part in (detail, "; ".join(more)) if part)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _first_text(document: dict[str, Json], names: Iterable[str]) -> str:
    return next((value for name in names if isinstance(value := document.get(name), str)), "")


def _graphql_errors(errors: Json, secrets: Iterable[str]) -> Verdict:
    said = [_graphql_message(error) for error in errors] if isinstance(errors, list) else ["errors of no known shape"]
    text = redact("; ".join(said), secrets)
    for_good = all(_FOR_GOOD.search(message) for message in said)
    return Verdict(said=Said.NO, passing=not for_good, text=f"200 with errors: {text}")


def _graphql_message(error: Json) -> str:
    if not isinstance(error, dict):
        return "an error of no known shape"
    extensions = error.get("extensions")
    code = _first_text(extensions, ("code",)) if isinstance(extensions, dict) else ""
    return " ".join(part for part in (_first_text(error, ("message",)), code) if part) or "an error without a message"


def _rest_read(pod: dict[str, Json]) -> PodRead | None:
    pod_id, status, locked = pod.get("id"), pod.get("status"), pod.get("locked")
    if not (isinstance(pod_id, str) and isinstance(status, str) and status in _STATUSES):
        return None
    facts = PodFacts(
        pod_id=pod_id,
        status=status,
        usd_per_hour=_usd(pod.get("cost")),
        locked=locked is True,
        cluster=pod.get("cluster") is not None,
        volume_path=_mount_path(pod.get("mounts")),
        name=_name(pod.get("name")),
    )
    return PodRead(facts=facts, lock_known=isinstance(locked, bool))


def _name(told: Json) -> str | None:
    return told if isinstance(told, str) and told else None


def _graphql_read(pod: dict[str, Json]) -> PodRead | None:
    pod_id, status = pod.get("id"), pod.get("desiredStatus")
    if not (isinstance(pod_id, str) and isinstance(status, str) and re.fullmatch("[A-Z_]{1,32}", status)):
        return None
    # The mount path stands there for a Pod without a volume, too, and the network volume is in no official query.
    has_disk = _usd(pod.get("volumeInGb")) not in (None, 0.0)
    path = pod.get("volumeMountPath") if has_disk else None
    facts = PodFacts(
        pod_id=pod_id,
        status=status,
        usd_per_hour=_usd(pod.get("costPerHr")),
        locked=False,
        cluster=False,
        volume_path=path if isinstance(path, str) else None,
    )
    return PodRead(facts=facts, lock_known=False)


def _usd(value: Json) -> float | None:
    """Return a number that can be a price or a size; None for all else, so that no arithmetic goes wrong later."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(value) if 0 <= value < 1e9 else None


def _mount_path(mounts: Json) -> str | None:
    if not isinstance(mounts, dict):
        return None
    network = mounts.get("network")
    candidates = [mounts.get("persistent"), *(network if isinstance(network, list) else [])]
    paths = [mount.get("path") for mount in candidates if isinstance(mount, dict)]
    return next((path for path in paths if isinstance(path, str)), None)


def _object(body: bytes) -> dict[str, Json] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
