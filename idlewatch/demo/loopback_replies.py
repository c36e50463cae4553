"""
What the API on loopback answers: the documented shapes, and each way in which an answer can go wrong.

Sources: REST v2's ErrorResponse (application/problem+json) and its RateLimit headers; the plain `error code: 1010`
of RunPod's edge; GraphQL's errors, which come with HTTP 200.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from idlewatch.model import Json

RATE_LIMIT = {
    "RateLimit-Policy": '"minute";q=60;w=60, "hour";q=3000;w=3600, "day";q=50000;w=86400',
    "RateLimit": '"minute";r=59;t=60, "hour";r=2999;t=3600, "day";r=49999;t=86400',
}
"""The example values of the OpenAPI document."""


class Manner(StrEnum):
    """How an answer is sent."""

    WHOLE = "whole"
    DRIP = "drip"
    """One byte of the body at a time."""
    DRIP_HEAD = "drip_head"
    """One byte of the headers at a time."""
    HANG = "hang"
    """Nothing at all."""
    CLOSE = "close"
    """The connection is reset."""
    CUT_OFF = "cut_off"
    """The connection ends before the announced length."""
    ENDLESS = "endless"
    """A body without an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer."""

    status: int
    content_type: str = "application/json"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = Manner.WHOLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How a call goes wrong, and how often; see `LoopbackApi.fail`."""

    kind: str = "status"
    status: int | None = None
    retry_after_s: int | None = None
    text: str | None = None
    """Detail, message or body, by kind."""
    applied: bool = False
    """The call has its effect all the same: only the answer goes wrong."""
    times: int | None = 1
    """None: always."""

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join(FAULTS)}")

    def reply(self, good: Reply) -> Reply:
        """Return the answer that goes out instead of the good one."""
        if self.kind in _MANNERS:
            return replace(good, manner=Manner(self.kind))
        if self.kind == "truncated_json":
            return replace(good, body=good.body[: len(good.body) // 2])
        if self.kind == "status":
            return self._with_status()
        return self._without_truth(good)

    def _with_status(self) -> Reply:
        status = self.status or 500
        reply = problem(status, self.text or f"injected {status}")
        wait = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return replace(reply, headers={**reply.headers, **wait})

    def _without_truth(self, good: Reply) -> Reply:
        text = self.text or ""
        replies = {
            "edge_1010": edge_1010(),
            "html": Reply(status=self.status or 200, content_type="text/html", body=_PAGE),
            "empty": Reply(status=self.status or 200),
            "body": Reply(status=self.status or 200, body=text.encode("latin-1")),
            "redirect": Reply(status=self.status or 302, headers={"Location": text or "/v2/elsewhere"}),
            "errors": graphql_errors(text or "Something went wrong"),
            "data_null": _nulled(good),
        }
        return replies[self.kind]


_PAGE = b"<!DOCTYPE html><html><body>Just a moment...</body></html>"
_MANNERS = frozenset(Manner) - {Manner.WHOLE}
FAULTS = (
    "status",
    *sorted(_MANNERS),
    "truncated_json",
    "edge_1010",
    "html",
    "empty",
    "body",
    "redirect",
    "errors",
    "data_null",
)
"""The kinds that `Fault` knows."""


def ok(document: Json, status: int = 200) -> Reply:
    """Return a document, with the headers of every answer of the API."""
    return Reply(status=status, body=json.dumps(document).encode(), headers=RATE_LIMIT)


def problem(status: int, detail: str, errors: list[str] | None = None) -> Reply:
    """Return an error as REST v2 words it."""
    known = {one.value: one.phrase for one in HTTPStatus}
    document: dict[str, Json] = {"title": known.get(status, "Error"), "status": status, "detail": detail}
    more: dict[str, Json] = {"errors": [*errors]} if errors else {}
    body = json.dumps(document | more).encode()
    return Reply(status=status, content_type="application/problem+json", body=body, headers=RATE_LIMIT)


def edge_1010() -> Reply:
    """Return what the edge says to a client whose User-Agent it dislikes."""
    return Reply(status=403, content_type="text/plain; charset=UTF-8", body=b"error code: 1010")


def graphql_errors(message: str, path: str | None = None) -> Reply:
    """Return a failure as GraphQL words it: HTTP 200."""
    error: dict[str, Json] = {"message": message} | ({"path": [path]} if path else {})
    return ok({"errors": [error], "data": None})


def _nulled(good: Reply) -> Reply:
    """Return a GraphQL answer with null for what was asked."""
    data = json.loads(good.body or b"{}").get("data") or {}
    nulled: dict[str, Json] = dict.fromkeys(data)
    return ok({"data": nulled})
