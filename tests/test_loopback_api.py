"""RunPod's API on loopback: its answers fit RunPod's own schema, and what breaks the facts is written down."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from idlewatch.demo.loopback_api import RIGHTS, LoopbackApi, LoopbackPod, StopEffect
from idlewatch.demo.loopback_facts import openapi
from idlewatch.demo.loopback_pod import LEGAL_ACTIONS
from idlewatch.demo.loopback_replies import FAULTS, RATE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

POD, KEY = "abc123", "rpa_LOOPKEY1"
POD_PATH, ACTION_PATH = f"/v2/pods/{POD}", f"/v2/pods/{POD}/action"
STOP = "mutation stopPod($podId: String!) { podStop(input: {podId: $podId}) { id desiredStatus lastStatusChange } }"
TERMINATE = "mutation terminatePod($podId: String!) { podTerminate(input: {podId: $podId}) }"
READ = "query pod($podId: String!) { pod(input: {podId: $podId}) { id desiredStatus costPerHr } }"


@pytest.fixture
def api() -> Iterator[LoopbackApi]:
    with LoopbackApi(pods=[LoopbackPod(pod_id=POD)], keys=[KEY]) as running:
        yield running


class Got:
    """One answer, read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        return self.headers.get_content_type()


def send(
    api: LoopbackApi,
    method: str,
    path: str,
    body: object = None,
    *,
    headers: list[tuple[str, str]] | None = None,
    key: str = KEY,
) -> Got:
    """Send exactly these headers; without any, those of a well-behaved client."""
    connection = http.client.HTTPConnection(api.address.removeprefix("http://"), timeout=10)
    content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in well_behaved(key, content) if headers is None else headers:
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(content)))
    connection.endheaders(content)
    got = Got(connection.getresponse())
    connection.close()
    return got


def well_behaved(key: str = KEY, content: bytes = b"") -> list[tuple[str, str]]:
    headers = [("User-Agent", "test/1"), ("Authorization", f"Bearer {key}")]
    return [*headers, ("Content-Type", "application/json")] if content else headers


def graphql(api: LoopbackApi, query: str, pod_id: str = POD, key: str = KEY) -> Got:
    return send(api, "POST", "/graphql", {"query": query, "variables": {"podId": pod_id}}, key=key)


def act(api: LoopbackApi, action: str, pod_id: str = POD, key: str = KEY) -> Got:
    return send(api, "POST", f"/v2/pods/{pod_id}/action", {"action": action}, key=key)


def assert_fits(got: Got, schema: str) -> None:
    root = {"$ref": f"#/components/schemas/{schema}", "components": openapi()["components"]}
    Draft202012Validator(root).validate(got.json)


# --- answers


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"status": "EXITED"},
        {"status": "PROVISIONING"},
        {"locked": True},
        {"cluster": "cl1"},
        {"volume_path": None},
        {"network_volume_id": "vol1"},
        {"gpu_count": 8},
    ],
    ids=str,
)
def test_a_pod_fits_runpods_schema(changes: dict[str, Any]) -> None:
    with LoopbackApi(pods=[LoopbackPod(pod_id=POD, **changes)], keys=[KEY]) as api:
        got = send(api, "GET", POD_PATH)
    assert (got.status, got.kind) == (200, "application/json")
    assert_fits(got, "Pod")
    assert got.headers["RateLimit"] == RATE_LIMIT["RateLimit"]
    assert api.problems == []


def test_the_schema_refuses_what_is_no_pod(api: LoopbackApi) -> None:
    """The validation above can fail."""
    api.fail("rest_read", "body", text='{"id": "abc123", "status": "SLEEPING"}')
    with pytest.raises(ValidationError):
        assert_fits(send(api, "GET", POD_PATH), "Pod")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 410, 422, 429, 500, 503, 520])
def test_an_error_fits_runpods_schema(api: LoopbackApi, status: int) -> None:
    api.fail("rest_stop", status=status, retry_after_s=7)
    got = act(api, "stop")
    assert (got.status, got.kind, got.headers["Retry-After"]) == (status, "application/problem+json", "7")
    assert_fits(got, "ErrorResponse")
    assert got.json["status"] == status


def test_every_reference_of_the_facts_is_there() -> None:
    text = json.dumps(openapi())
    for schema in openapi()["components"]["schemas"]:
        Draft202012Validator.check_schema(openapi()["components"]["schemas"][schema])
    for reference in text.split('"$ref": "#/components/schemas/')[1:]:
        assert reference.partition('"')[0] in openapi()["components"]["schemas"]


def test_a_stop_releases_the_compute_and_its_price(api: LoopbackApi) -> None:
    got = act(api, "stop")
    assert_fits(got, "Pod")
    assert (got.json["status"], got.json["cost"], got.json["runtime"]) == ("EXITED", 0.0, None)
    assert got.json["actions"] == ["start", "terminate"]


@pytest.mark.parametrize("status", LEGAL_ACTIONS)
@pytest.mark.parametrize("action", ["start", "stop", "restart"])
def test_an_action_that_the_status_does_not_allow_is_a_409(api: LoopbackApi, status: str, action: str) -> None:
    api.pods[POD].status = status
    got = act(api, action)
    assert got.status == (200 if action in LEGAL_ACTIONS[status] else 409)
    assert_fits(got, "Pod" if got.status == 200 else "ErrorResponse")


def test_a_locked_pod_names_no_stop_and_answers_409(api: LoopbackApi) -> None:
    api.pods[POD].locked = True
    assert send(api, "GET", POD_PATH).json["actions"] == ["terminate"]
    assert act(api, "stop").status == 409
    assert "errors" in graphql(api, STOP).json


def test_a_cluster_member_answers_409(api: LoopbackApi) -> None:
    api.pods[POD].cluster = "cl1"
    assert act(api, "stop").status == 409
    assert api.pods[POD].status == "RUNNING"


def test_a_start_is_another_boot(api: LoopbackApi) -> None:
    before = send(api, "GET", POD_PATH).json["startedAt"]
    act(api, "stop")
    assert act(api, "start").json["startedAt"] > before


def test_graphql_stops_and_reads(api: LoopbackApi) -> None:
    assert graphql(api, STOP).json["data"]["podStop"] == {
        "id": POD,
        "desiredStatus": "EXITED",
        "lastStatusChange": "",
    }
    assert graphql(api, READ).json == {"data": {"pod": {"id": POD, "desiredStatus": "EXITED", "costPerHr": 0.0}}}
    assert api.problems == []


# --- keys


@pytest.mark.parametrize("right", RIGHTS)
def test_a_key_does_what_it_was_granted_and_nothing_else(api: LoopbackApi, right: str) -> None:
    api.grant(KEY, (right,))
    allowed = {
        "rest_read": send(api, "GET", POD_PATH).status == 200,
        "rest_stop": act(api, "stop").status == 200,
        "graphql_read": "errors" not in graphql(api, READ).json,
        "graphql_stop": "errors" not in graphql(api, STOP).json,
    }
    assert allowed == {one: one == right for one in RIGHTS}


def test_an_unknown_key_is_401_in_both(api: LoopbackApi) -> None:
    assert send(api, "GET", POD_PATH, key="nobody").status == 401
    assert graphql(api, READ, key="nobody").status == 401


def test_a_key_of_one_pod_sees_no_other(api: LoopbackApi) -> None:
    api.pods["other1"] = LoopbackPod(pod_id="other1")
    api.grant("scoped", pod_id=POD)
    assert act(api, "stop", "other1", key="scoped").status == 404
    assert graphql(api, READ, "other1", key="scoped").json == {"data": {"pod": None}}
    assert "errors" in graphql(api, STOP, "other1", key="scoped").json
    assert api.pods["other1"].status == "RUNNING"
    assert act(api, "stop", key="scoped").status == 200


def test_a_right_that_does_not_exist_is_a_mistake_of_the_test(api: LoopbackApi) -> None:
    with pytest.raises(ValueError, match="rest_terminate"):
        api.grant(KEY, ["rest_terminate"])


# --- what breaks the facts

BEARER = ("Authorization", f"Bearer {KEY}")
AGENT = ("User-Agent", "test/1")
JSON_TYPE = ("Content-Type", "application/json")
BAD: list[tuple[str, str, str, object, list[tuple[str, str]], int]] = [
    ("unknown path", "GET", "/v2/pod/abc123", None, [AGENT, BEARER], 404),
    ("the retired API", "POST", f"/v1/pods/{POD}/stop", None, [AGENT, BEARER], 404),
    ("all Pods", "GET", "/v2/pods", None, [AGENT, BEARER], 404),
    ("wrong method", "POST", POD_PATH, {}, [AGENT, BEARER, JSON_TYPE], 405),
    ("a change", "PATCH", POD_PATH, {}, [AGENT, BEARER, JSON_TYPE], 405),
    ("a query string", "GET", f"{POD_PATH}?api_key=rpa_x", None, [AGENT, BEARER], 400),
    ("a body on a read", "GET", POD_PATH, {}, [AGENT, BEARER], 400),
    ("another action", "POST", ACTION_PATH, {"action": "sleep"}, [AGENT, BEARER, JSON_TYPE], 422),
    ("the retired reset", "POST", ACTION_PATH, {"action": "reset"}, [AGENT, BEARER, JSON_TYPE], 422),
    ("more than an action", "POST", ACTION_PATH, {"action": "stop", "x": 1}, [AGENT, BEARER, JSON_TYPE], 422),
    ("no action", "POST", ACTION_PATH, {}, [AGENT, BEARER, JSON_TYPE], 422),
    ("an action of no string", "POST", ACTION_PATH, {"action": 1}, [AGENT, BEARER, JSON_TYPE], 422),
    ("a body of no object", "POST", ACTION_PATH, ["stop"], [AGENT, BEARER, JSON_TYPE], 422),
    ("no JSON", "POST", ACTION_PATH, b"stop", [AGENT, BEARER, JSON_TYPE], 400),
    ("no body", "POST", ACTION_PATH, None, [AGENT, BEARER, JSON_TYPE], 400),
    (
        "wrong content type",
        "POST",
        ACTION_PATH,
        {"action": "stop"},
        [AGENT, BEARER, ("Content-Type", "text/plain")],
        400,
    ),
    ("no content type", "POST", ACTION_PATH, {"action": "stop"}, [AGENT, BEARER], 400),
    ("no bearer", "GET", POD_PATH, None, [AGENT], 401),
    ("basic", "GET", POD_PATH, None, [AGENT, ("Authorization", "Basic eDp5")], 401),
    ("two bearers", "GET", POD_PATH, None, [AGENT, BEARER, BEARER], 400),
    ("urllib's name", "GET", POD_PATH, None, [("User-Agent", "Python-urllib/3.12"), BEARER], 403),
    ("GraphQL by GET", "GET", "/graphql", None, [AGENT, BEARER], 405),
    ("GraphQL without a query", "POST", "/graphql", {"variables": {}}, [AGENT, BEARER, JSON_TYPE], 400),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"), [row[1:] for row in BAD], ids=[r[0] for r in BAD]
)
def test_what_breaks_the_facts_is_refused_and_written_down(
    api: LoopbackApi, method: str, path: str, body: object, headers: list[tuple[str, str]], status: int
) -> None:
    got = send(api, method, path, body, headers=headers)
    assert got.status == status
    assert len(api.problems) >= 1
    assert api.pods[POD].status == "RUNNING"
    assert "rpa_" not in repr((api.problems, api.requests))


def test_the_edge_answers_in_its_own_words(api: LoopbackApi) -> None:
    got = send(api, "GET", POD_PATH, headers=[("User-Agent", "Python-urllib/3.12"), BEARER])
    assert (got.status, got.kind, got.body) == (403, "text/plain", b"error code: 1010")
    assert got.headers["RateLimit"] is None


def test_a_missing_agent_passes_but_is_written_down(api: LoopbackApi) -> None:
    assert send(api, "GET", POD_PATH, headers=[BEARER]).status == 200
    assert api.problems == [f"GET {POD_PATH}: no User-Agent"]


@pytest.mark.parametrize(
    "query",
    [
        "query myPods { myself { pods { id } } }",
        "{ __schema { types { name } } }",
        READ.replace("id desiredStatus", "id desiredStatus } } query two { x {"),
        STOP.replace("mutation", "query"),
        f'mutation {{ podStop(input: {{podId: "{POD}"}}) {{ id }} }}',
    ],
)
def test_graphql_that_is_not_documented_is_refused_and_written_down(api: LoopbackApi, query: str) -> None:
    got = graphql(api, query)
    assert (got.status, got.json["data"]) == (200, None)
    assert got.json["errors"]
    assert any("not documented" in problem for problem in api.problems)
    assert api.pods[POD].status == "RUNNING"


def test_a_field_that_is_not_known_is_an_error(api: LoopbackApi) -> None:
    assert (
        'Cannot query field "secret"' in graphql(api, READ.replace("costPerHr", "secret")).json["errors"][0]["message"]
    )


@pytest.mark.parametrize("way", ["delete", "action", "graphql"])
def test_a_termination_is_refused_and_written_down(api: LoopbackApi, way: str) -> None:
    terminate(api, way)
    assert api.pods[POD].status == "RUNNING"
    assert any("termination" in problem for problem in api.problems)
    assert api.requests[-1].call == "terminate"


@pytest.mark.parametrize(("way", "status"), [("action", 204), ("graphql", 200)])
def test_a_termination_that_was_allowed_is_written_down_all_the_same(way: str, status: int) -> None:
    with LoopbackApi(pods=[LoopbackPod(pod_id=POD)], keys=[KEY], allow_terminate=True) as api:
        assert terminate(api, way).status == status
        assert api.pods[POD].status == "TERMINATED"
        assert any("termination" in problem for problem in api.problems)


def terminate(api: LoopbackApi, way: str) -> Got:
    if way == "delete":
        return send(api, "DELETE", POD_PATH)
    return act(api, "terminate") if way == "action" else graphql(api, TERMINATE)


# --- what is remembered


def test_the_log_names_the_call_and_the_key_but_not_its_secret(api: LoopbackApi) -> None:
    api.grant("rpa_SECOND")
    act(api, "stop", key="rpa_SECOND")
    logged = api.requests[0]
    assert (logged.call, logged.method, logged.path, logged.status) == ("rest_stop", "POST", ACTION_PATH, 200)
    assert (logged.key, logged.body) == (1, {"action": "stop"})
    assert logged.headers["authorization"] == "[hidden]"
    assert "rpa_" not in repr(logged)


# --- faults


def test_a_fault_lasts_as_often_as_it_was_told_to(api: LoopbackApi) -> None:
    api.fail("rest_read", status=503, times=2)
    api.fail("rest_read", status=500)
    assert [send(api, "GET", POD_PATH).status for _ in range(4)] == [503, 503, 500, 200]


def test_a_lasting_fault_ends_with_recover(api: LoopbackApi) -> None:
    api.fail("rest_read", status=503, times=None)
    assert [send(api, "GET", POD_PATH).status for _ in range(3)] == [503, 503, 503]
    api.recover()
    assert send(api, "GET", POD_PATH).status == 200


@pytest.mark.parametrize("kind", sorted(set(FAULTS) - {"hang", "drip", "drip_head", "endless"}))
@pytest.mark.parametrize("applied", [False, True])
def test_a_fault_has_an_effect_only_if_told_so(api: LoopbackApi, kind: str, *, applied: bool) -> None:
    api.fail("rest_stop", kind, applied=applied)
    try:
        act(api, "stop")
    except (OSError, http.client.HTTPException):
        assert kind in {"close", "cut_off"}
    assert api.pods[POD].status == ("EXITED" if applied else "RUNNING")


@pytest.mark.parametrize(("call", "kind"), [("rest_delete", "status"), ("rest_stop", "explode")])
def test_a_fault_that_does_not_exist_is_a_mistake_of_the_test(api: LoopbackApi, call: str, kind: str) -> None:
    with pytest.raises(ValueError, match=call if call not in RIGHTS else kind):
        api.fail(call, kind)


def test_a_null_answer_keeps_the_name_of_what_was_asked(api: LoopbackApi) -> None:
    api.fail("graphql_stop", "data_null")
    assert graphql(api, STOP).json == {"data": {"podStop": None}}


# --- the end of a Pod


def stopping(pod: LoopbackPod) -> tuple[LoopbackApi, threading.Event, list[str]]:
    ended, ids = threading.Event(), list[str]()

    def on_stop(pod_id: str) -> None:
        ids.append(pod_id)
        ended.set()

    return LoopbackApi(pods=[pod], keys=[KEY], on_stop=on_stop), ended, ids


def test_a_stop_calls_back_once(api: LoopbackApi) -> None:
    loopback, ended, ids = stopping(LoopbackPod(pod_id=POD))
    with loopback:
        act(loopback, "stop")
        act(loopback, "stop")
        graphql(loopback, STOP)
        assert ended.wait(10)
    assert ids == [POD]


def test_a_delayed_stop_runs_on_until_its_end() -> None:
    loopback, ended, ids = stopping(LoopbackPod(pod_id=POD, stop_delay_s=0.2))
    with loopback:
        assert act(loopback, "stop").json["status"] == "RUNNING"
        act(loopback, "stop")
        assert ended.wait(10)
        assert send(loopback, "GET", POD_PATH).json["status"] == "EXITED"
    assert ids == [POD]


def test_a_stop_that_is_only_said_calls_nobody_back() -> None:
    loopback, _, ids = stopping(LoopbackPod(pod_id=POD, stop_effect=StopEffect.ONLY_SAID))
    with loopback:
        assert act(loopback, "stop").json["status"] == "EXITED"
        loopback.account.settle()
    assert ids == []


def test_a_stop_without_effect_leaves_it_running() -> None:
    loopback, _, ids = stopping(LoopbackPod(pod_id=POD, stop_effect=StopEffect.NOTHING))
    with loopback:
        assert act(loopback, "stop").json["status"] == "RUNNING"
        assert graphql(loopback, STOP).json["data"]["podStop"]["desiredStatus"] == "RUNNING"
        loopback.account.settle()
    assert ids == []


# --- the process


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "idlewatch.demo.loopback_api", "--port", "0", "--pod-id", POD, "--key", KEY]
    with subprocess.Popen(
        [*command, "--print-json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        yield running
        running.kill()


class Elsewhere:
    """As much of an API in another process as `send` needs."""

    def __init__(self, line: str) -> None:
        self.urls = json.loads(line)
        self.address = self.urls["rest_url"].removesuffix("/v2")


@pytest.mark.slow
def test_as_a_process_it_says_where_it_is_and_is_steered(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    api: Any = Elsewhere(process.stdout.readline())
    assert api.urls["control_url"] == f"{api.address}/_control"
    assert send(api, "POST", "/_control/fail", {"call": "rest_stop", "status": 503}).status == 200
    assert [act(api, "stop").status for _ in range(2)] == [503, 200]
    send(api, "GET", "/v2/nonsense")
    assert send(api, "GET", "/_control/state").json[POD]["status"] == "EXITED"
    assert [one["call"] for one in send(api, "GET", "/_control/requests").json] == ["rest_stop", "rest_stop", "other"]
    assert send(api, "GET", "/_control/problems").json == ["GET /v2/nonsense: unknown path /v2/nonsense"]
    assert send(api, "POST", "/_control/fail", {"call": "nonsense"}).status == 422
    assert send(api, "GET", "/_control/nonsense").status == 404
    for view in ("state", "requests", "problems"):
        body = send(api, "GET", f"/_control/{view}").body.decode()
        assert KEY not in body
        assert "SecretValue" not in body


@pytest.mark.slow
def test_as_a_process_it_ends_with_its_input(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    process.stdin.close()
    assert process.wait(20) == 0


@pytest.mark.slow
def test_as_a_process_it_ends_at_sigterm(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.slow
def test_it_needs_the_standard_library_only() -> None:
    others = {"httpx", "pydantic", "psutil", "structlog", "rich", "pynvml"}
    code = f"import sys, idlewatch.demo.loopback_api; sys.exit(bool({others} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
