"""
What is wrong with a request, held against RunPod's OpenAPI facts and what is known of its edge.

Standard library only: it understands as much of JSON Schema as the facts use for a request.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from idlewatch.model import Json

GRAPHQL_PATH = "/graphql"
REST_PREFIX = "/v2"

# The documented spellings (runpodctl's api/pod.go), white space aside.
_OPERATION = re.compile(
    r"(query|mutation) \w+\(\$podId: String!\) \{ (\w+)\(input: \{podId: \$podId\}\)(?: \{ ([\w ]+?) \})? \}"
)
_GRAPHQL_CALLS = {("query", "pod"): "graphql_read", ("mutation", "podStop"): "graphql_stop"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a request has wrong, and what it is answered with; status 0 lets it pass, recorded."""

    status: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request as it arrived."""

    method: str
    path: str
    has_query: bool = False
    """Of the query string nothing is kept: older clients put the key there."""
    headers: tuple[tuple[str, str], ...]
    content: bytes

    def all_of(self, name: str) -> list[str]:
        """Return each value of a header."""
        return [value for header, value in self.headers if header.lower() == name]

    def json(self) -> Json:
        """Return the body; None where it is no JSON."""
        try:
            document: Json = json.loads(self.content)
        except (ValueError, RecursionError):
            return None
        return document

    def key(self) -> str:
        """Return the bearer token, or nothing."""
        return (self.all_of("authorization") or [""])[0].removeprefix("Bearer ")

    def pod_id(self) -> str:
        """Return the Pod that it is about, in either API; empty where none is named."""
        if self.path != GRAPHQL_PATH:
            return unquote(_pod_id_in(self.path) or "")
        body = self.json()
        variables = body.get("variables") if isinstance(body, dict) else None
        return str(variables.get("podId", "")) if isinstance(variables, dict) else ""


@dataclass(frozen=True, slots=True)
class Operation:
    """The documented GraphQL operation that a query is."""

    name: str
    fields: tuple[str, ...]
    call: str
    """`graphql_read`, `graphql_stop` or `terminate`."""


@cache
def openapi() -> dict[str, Any]:
    """Return the facts."""
    facts: dict[str, Any] = json.loads(Path(__file__).with_name("runpod_openapi.json").read_text())
    return facts


def operation_in(sent: Sent) -> Operation | None:
    """Return the documented operation in a GraphQL request; None for every other text."""
    body = sent.json()
    query = body.get("query") if isinstance(body, dict) else None
    found = _OPERATION.fullmatch(" ".join(query.split())) if isinstance(query, str) else None
    if found is None:
        return None
    kind, name, fields = found[1], found[2], tuple((found[3] or "").split())
    if (kind, name) == ("mutation", "podTerminate") and not fields:
        return Operation(name, fields, "terminate")
    call = _GRAPHQL_CALLS.get((kind, name))
    return Operation(name, fields, call) if call and fields else None


def call_of(sent: Sent) -> str:
    """Return what a request is: `rest_read`, `rest_stop`, `graphql_read`, `graphql_stop`, `terminate` or `other`."""
    if sent.path == GRAPHQL_PATH:
        operation = operation_in(sent)
        return operation.call if operation else "other"
    body = sent.json()
    action = body.get("action") if isinstance(body, dict) else None
    if sent.method == "DELETE" or action == "terminate":
        return "terminate"
    if _pod_id_in(sent.path) is None:
        return "other"
    return {"GET": "rest_read", "POST": "rest_stop" if action == "stop" else "other"}.get(sent.method, "other")


def problems_of(sent: Sent) -> list[Problem]:
    """Return all that is wrong with a request, the edge's objections first."""
    shape = _graphql_problems(sent) if sent.path == GRAPHQL_PATH else _rest_problems(sent)
    return [*_edge_problems(sent), *_bearer_problems(sent), *shape]


def _pod_id_in(path: str) -> str | None:
    """Return the id in a REST path; it comes quoted, as sent."""
    found = re.fullmatch(rf"{REST_PREFIX}/pods/([^/]+)(?:/action)?", path)
    return found[1] if found else None


def _edge_problems(sent: Sent) -> Iterator[Problem]:
    agents = sent.all_of("user-agent")
    if not agents:
        yield Problem(0, "no User-Agent")
    elif agents[0].startswith("Python-urllib"):
        yield Problem(1010, f"the User-Agent {agents[0]}, which the edge rejects")
    if sent.has_query:
        yield Problem(400, "a query string, where none is expected")
    if len(sent.all_of("authorization")) > 1:
        yield Problem(400, "more than one Authorization header")


def _bearer_problems(sent: Sent) -> Iterator[Problem]:
    tokens = sent.all_of("authorization")
    if not tokens or not re.fullmatch(r"Bearer \S+", tokens[0]):
        yield Problem(401, "missing bearer token")


def _rest_problems(sent: Sent) -> Iterator[Problem]:
    item = next((item for path, item in openapi()["paths"].items() if _fits(path, sent.path)), None)
    if item is None:
        yield Problem(404, f"unknown path {sent.path}")
        return
    operation = item.get(sent.method.lower())
    if operation is None:
        yield Problem(405, f"{sent.method} {sent.path} is not among the facts" + _terminates(sent.method))
        return
    yield from _body_problems(sent, operation.get("requestBody"))


def _terminates(method: str) -> str:
    return ": it terminates a Pod" if method == "DELETE" else ""


def _fits(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) is not None


def _body_problems(sent: Sent, expected: Mapping[str, Any] | None) -> Iterator[Problem]:
    if expected is None:
        if sent.content:
            yield Problem(400, "a body where none is expected")
        return
    yield from _json_problems(sent)
    if sent.json() is not None:
        schema = expected["content"]["application/json"]["schema"]
        yield from (Problem(422, text) for text in _breaches(sent.json(), schema, "body"))


def _json_problems(sent: Sent) -> Iterator[Problem]:
    types = sent.all_of("content-type")
    if len(types) != 1 or types[0].partition(";")[0].strip().lower() != "application/json":
        yield Problem(400, f"content type {types}, not application/json")
    if sent.json() is None:
        yield Problem(400, "a body that is not JSON")


def _breaches(value: Json, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    """Each way in which a value breaks a schema of objects, strings and enumerations."""
    if "$ref" in schema:
        schema = openapi()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    kinds = {"object": dict, "string": str}
    if not isinstance(value, kinds[schema["type"]]):
        yield f"{where} is not of type {schema['type']}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where} is none of {schema['enum']}"
    elif isinstance(value, dict):
        properties = schema["properties"]
        yield from (f"{where}.{name} is missing" for name in schema["required"] if name not in value)
        yield from (f"{where}.{name} is not expected" for name in value if name not in properties)
        for name in value.keys() & properties.keys():
            yield from _breaches(value[name], properties[name], f"{where}.{name}")


def _graphql_problems(sent: Sent) -> Iterator[Problem]:
    if sent.method != "POST":
        yield Problem(405, f"{sent.method} {sent.path}: GraphQL is asked by POST")
        return
    yield from _json_problems(sent)
    body = sent.json()
    if not isinstance(body, dict) or not {"query"} <= body.keys() <= {"query", "variables", "operationName"}:
        yield Problem(400, "a GraphQL body without a query, or with more")
        return
    if operation_in(sent) is None:
        yield Problem(0, f"a GraphQL operation that is not documented: {str(body['query'])[:120]}")
    variables = body.get("variables")
    if not isinstance(variables, dict) or variables.keys() != {"podId"} or not isinstance(variables["podId"], str):
        yield Problem(0, "GraphQL variables that are not exactly a podId")
