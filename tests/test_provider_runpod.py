"""The RunPod provider against RunPod's API on loopback, over real HTTP: what each answer amounts to."""

from __future__ import annotations

import json
import logging
import ssl
import subprocess
import sys
import traceback
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idlewatch.demo.loopback_api import RIGHTS, LoopbackApi, LoopbackPod, StopEffect
from idlewatch.errors import ProviderError, ProviderRefused, ProviderUnavailable
from idlewatch.model import PodFacts, PodIdentity, Provider, StopAnswer
from idlewatch.providers import PROVIDERS, transport
from idlewatch.providers.runpod import WORKER_VARIABLES, ApiKey, RunpodProvider
from idlewatch.providers.transport import Answer
from idlewatch.providers.verdicts import PodRead, Said, Verdict, graphql_pod, redact, rest_pod, retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POD = "abc123def456"
OWN = "rpa_OWNERSKEY0000000000000000000000001"
INJECTED = "rpa_INJECTEDKEY00000000000000000000002"
OWN_NAME, INJECTED_NAME = "IDLEWATCH_RUNPOD_API_KEY", "RUNPOD_API_KEY"
READ, STOP, GQL_READ, GQL_STOP = RIGHTS


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def api() -> Iterator[LoopbackApi]:
    """One RUNNING Pod; at the end, nothing that was asked may break the facts or terminate."""
    with LoopbackApi(pods=[LoopbackPod(pod_id=POD), LoopbackPod(pod_id="another1")], keys=[INJECTED]) as running:
        yield running
        assert_well_behaved(running)


def assert_well_behaved(api: LoopbackApi) -> None:
    assert api.problems == []
    for request in api.requests:
        assert request.method in {"GET", "POST"}
        assert request.headers["user-agent"].startswith("idlewatch/")
        assert request.headers["authorization"] == "[hidden]"
        assert "another1" not in request.path
        assert "terminate" not in json.dumps(request.body).lower()
        if request.path.startswith("/v2/") and request.method == "POST":
            assert (request.path, request.body) == (f"/v2/pods/{POD}/action", {"action": "stop"})


def identity(pod_id: str | None = POD, source: str = "environment") -> PodIdentity:
    return PodIdentity(pod_id=pod_id, source=source, started_s=0.0, boot_key="boot")


def provider(api: LoopbackApi | None = None, **changes: Any) -> RunpodProvider:
    arguments: dict[str, Any] = {
        "identity": identity(),
        "environment": {"RUNPOD_POD_ID": POD},
        "keys": [ApiKey(INJECTED_NAME, INJECTED)],
        "rest_url": api.rest_url if api else "http://127.0.0.1:9/v2",
        "graphql_url": api.graphql_url if api else "http://127.0.0.1:9/graphql",
        "call_timeout_s": 2.0,
        "total_deadline_s": 20.0,
    }
    return RunpodProvider(**{**arguments, **changes})


def both_keys(api: LoopbackApi, own: tuple[str, ...], injected: tuple[str, ...]) -> RunpodProvider:
    api.grant(OWN, own)
    api.grant(INJECTED, injected)
    return provider(api, keys=[ApiKey(OWN_NAME, OWN), ApiKey(INJECTED_NAME, INJECTED)])


def calls(api: LoopbackApi) -> list[str]:
    return [request.call for request in api.requests]


def stop_refusal(asked: RunpodProvider, kind: type[ProviderError] = ProviderError) -> ProviderError:
    """Return the error of a stop that must fail, once it is known to hold no secret."""
    with pytest.raises(kind) as caught:
        asked.stop()
    assert_no_secret(caught.value)
    return caught.value


def assert_no_secret(error: BaseException) -> None:
    told = "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(vars(error))
    pod_values = LoopbackPod(pod_id=POD).env.values()
    for secret in (OWN, INJECTED, *pod_values):
        assert secret not in told
        assert secret[:14] not in told
    assert "\n" not in str(error)


# --- one fault a rung, everything else in order


@dataclass(frozen=True, kw_only=True)
class Row:
    """What goes wrong, and what a stop makes of it. `rest` and `graphql` are what `api.fail` takes."""

    id: str
    rest: dict[str, Any] = field(default_factory=dict)
    graphql: dict[str, Any] = field(default_factory=dict)
    accepted_by: str = ""
    error: type[ProviderError] | None = None
    says: tuple[str, ...] = ()
    retry_after_s: float | None = None
    calls: tuple[str, ...] = (READ, STOP, GQL_STOP)


REST_OK, GRAPHQL_OK = f"REST v2 with {INJECTED_NAME}", f"GraphQL with {INJECTED_NAME}"
UNAUTHORIZED = {"kind": "errors", "text": "Unauthorized"}

ROWS = [
    Row(id="all well", accepted_by=REST_OK, calls=(READ, STOP)),
    *(
        Row(id=f"REST {code}", rest={"status": code}, accepted_by=GRAPHQL_OK, says=(f"{code} {phrase}",))
        for code, phrase in (
            (401, "Unauthorized"),
            (402, "Payment Required"),
            (403, "Forbidden"),
            (404, "Not Found"),
            (408, "Request Timeout"),
            (410, "Gone"),
            (429, "Too Many Requests"),
            (500, "Internal Server Error"),
            (503, "Service Unavailable"),
        )
    ),
    *(
        Row(
            id=f"REST {code}, GraphQL without the right",
            rest={"status": code, "text": "so it is"},
            graphql=UNAUTHORIZED,
            error=ProviderRefused,
            says=(f"{code} ", "so it is", "Unauthorized", OWN_NAME, REST_OK, GRAPHQL_OK),
        )
        for code in (401, 403, 404, 405, 410)
    ),
    *(
        Row(
            id=f"REST {code}, GraphQL without the right",
            rest={"status": code},
            graphql=UNAUTHORIZED,
            error=ProviderUnavailable,
            says=(f"{code} ",),
        )
        for code in (408, 425, 429, 500, 502, 503, 504, 520)
    ),
    Row(
        id="the longest wait counts",
        rest={"status": 429, "retry_after_s": 17},
        graphql={"status": 429, "retry_after_s": 42},
        error=ProviderUnavailable,
        retry_after_s=42.0,
    ),
    Row(
        id="a wait of one rung counts beside a refusal of the other",
        rest={"status": 429, "retry_after_s": 17},
        graphql={"status": 401},
        error=ProviderUnavailable,
        retry_after_s=17.0,
    ),
    Row(
        id="a wait of a year is cut",
        rest={"status": 503, "retry_after_s": 31536000},
        graphql=UNAUTHORIZED,
        error=ProviderUnavailable,
        retry_after_s=3600.0,
    ),
    *(
        Row(
            id=f"REST {code}, and the Pod is readable and free",
            rest={"status": code, "text": "not so"},
            graphql=UNAUTHORIZED,
            error=ProviderRefused,
            says=("not so", "RUNNING and not locked"),
            calls=(READ, STOP, READ, GQL_STOP),
        )
        for code in (400, 422)
    ),
    Row(
        id="REST 409 of a running Pod is passing",
        rest={"status": 409},
        graphql=UNAUTHORIZED,
        error=ProviderUnavailable,
        says=("409 Conflict", "RUNNING and not locked"),
        calls=(READ, STOP, READ, GQL_STOP),
    ),
    Row(
        id="REST 409 of a running Pod, and GraphQL stops it",
        rest={"status": 409},
        accepted_by=GRAPHQL_OK,
        calls=(READ, STOP, READ, GQL_STOP),
    ),
    Row(
        id="the edge rejects both",
        rest={"kind": "edge_1010"},
        graphql={"kind": "edge_1010"},
        error=ProviderUnavailable,
        says=("edge", "error code: 1010", "says nothing about the key"),
    ),
    Row(
        id="403 with a page is the edge",
        rest={"kind": "html", "status": 403},
        graphql=UNAUTHORIZED,
        error=ProviderUnavailable,
        says=("edge", "HTML"),
    ),
    Row(
        id="410 with a page is still the end of that API",
        rest={"kind": "html", "status": 410},
        graphql={"kind": "html", "status": 410},
        error=ProviderRefused,
        says=("shut off",),
    ),
    *(
        Row(id=f"both: {kind}", rest={"kind": kind}, graphql={"kind": kind}, error=ProviderUnavailable, says=says)
        for kind, says in (
            ("html", ("200 without",)),
            ("empty", ("200 without",)),
            ("truncated_json", ("200 without",)),
            ("redirect", ("302", "not followed")),
            ("close", ("broke",)),
            ("cut_off", ("broke",)),
            ("endless", ("more than 1 MiB",)),
        )
    ),
    Row(
        id="204 is no proof of a stop",
        rest={"kind": "empty", "status": 204},
        graphql=UNAUTHORIZED,
        error=ProviderUnavailable,
        says=("204",),
    ),
    *(
        Row(
            id=f"GraphQL says {text!r}",
            rest={"status": 403},
            graphql={"kind": "errors", "text": text},
            error=error,
            says=(text,),
        )
        for text, error in (
            ("Something went wrong", ProviderUnavailable),
            ("Internal server error", ProviderUnavailable),
            ("Not authorized", ProviderRefused),
            ("pod not found", ProviderRefused),
            ("This pod can not be stopped", ProviderRefused),
        )
    ),
    Row(
        id="GraphQL says nothing of the stop",
        rest={"status": 403},
        graphql={"kind": "data_null"},
        error=ProviderUnavailable,
        says=("data.podStop",),
    ),
    Row(
        id="GraphQL says yes without data",
        rest={"status": 403},
        graphql={"kind": "body", "text": '{"data": null}'},
        error=ProviderUnavailable,
    ),
    Row(
        id="GraphQL says both data and errors",
        rest={"status": 403},
        graphql={
            "kind": "body",
            "text": f'{{"errors":["half"],"data":{{"podStop":{{"id":"{POD}","desiredStatus":"EXITED"}}}}}}',
        },
        error=ProviderUnavailable,
        says=("200 with errors",),
    ),
    Row(
        id="GraphQL wants it to run on",
        rest={"status": 403},
        graphql={"kind": "body", "text": f'{{"data":{{"podStop":{{"id":"{POD}","desiredStatus":"RUNNING"}}}}}}'},
        error=ProviderUnavailable,
        says=("RUNNING",),
    ),
    Row(
        id="another Pod was answered about",
        rest={"kind": "body", "text": '{"id": "another1", "status": "EXITED", "locked": false}'},
        error=ProviderRefused,
        says=("another Pod",),
        calls=(READ, STOP),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_what_a_stop_makes_of_an_answer(api: LoopbackApi, row: Row) -> None:
    for call, fault in ((STOP, row.rest), (GQL_STOP, row.graphql)):
        if fault:
            api.fail(call, **fault)
    asked = provider(api)
    if row.error is None:
        answer = asked.stop()
        told = "; ".join(answer.tried)
        assert answer.accepted_by == row.accepted_by
        assert api.pods[POD].status == "EXITED"
    else:
        error = stop_refusal(asked, row.error)
        told = str(error)
        assert type(error) is row.error
        assert getattr(error, "retry_after_s", None) == row.retry_after_s
        assert api.pods[POD].status == "RUNNING"
    for text in row.says:
        assert text in told
    assert calls(api) == list(row.calls)


# --- keys and their rights


@pytest.mark.parametrize(
    ("own", "injected", "accepted_by", "made"),
    [
        (RIGHTS, RIGHTS, f"REST v2 with {OWN_NAME}", [READ, STOP]),
        ((READ,), RIGHTS, f"REST v2 with {INJECTED_NAME}", [READ, STOP, GQL_STOP, STOP]),
        ((), (GQL_STOP,), f"GraphQL with {INJECTED_NAME}", [READ, READ, GQL_READ, GQL_READ, *([STOP, GQL_STOP] * 2)]),
        ((STOP,), (), f"REST v2 with {OWN_NAME}", [READ, READ, GQL_READ, GQL_READ, STOP]),
        ((GQL_READ, GQL_STOP), (), f"GraphQL with {OWN_NAME}", [READ, READ, GQL_READ, STOP, GQL_STOP]),
    ],
    ids=["own key first", "own key only reads", "injected key stops by GraphQL", "stops unread", "GraphQL alone"],
)
def test_each_key_climbs_the_ladder_in_order(
    api: LoopbackApi, own: tuple[str, ...], injected: tuple[str, ...], accepted_by: str, made: list[str]
) -> None:
    answer = both_keys(api, own, injected).stop()
    assert answer.accepted_by == accepted_by
    assert calls(api) == made
    assert len(answer.tried) == sum(call in {STOP, GQL_STOP} for call in made) - 1


def test_keys_without_any_right_are_refused_for_good_and_all_named(api: LoopbackApi) -> None:
    error = stop_refusal(both_keys(api, (), ()), ProviderRefused)
    for api_name in ("REST v2", "GraphQL"):
        for key in (OWN_NAME, INJECTED_NAME):
            assert f"{api_name} with {key}" in str(error)
    assert [request.key for request in api.requests if request.call == STOP] == [1, 0]


def test_an_unknown_key_is_refused(api: LoopbackApi) -> None:
    error = stop_refusal(provider(api, keys=[ApiKey(INJECTED_NAME, "rpa_nobodysKey")]), ProviderRefused)
    assert "401 Unauthorized: invalid bearer token" in str(error)


def test_a_key_of_another_pod_is_refused(api: LoopbackApi) -> None:
    api.grant(OWN, pod_id="another1")
    error = stop_refusal(provider(api, keys=[ApiKey(OWN_NAME, OWN)]), ProviderRefused)
    assert "404" in str(error)


def test_no_key_at_all_is_refused_and_says_which_variable_would_help(api: LoopbackApi) -> None:
    error = stop_refusal(provider(api, keys=[ApiKey(OWN_NAME, "  \n")]), ProviderRefused)
    assert OWN_NAME in str(error)
    assert api.requests == []


def test_a_key_with_a_newline_from_a_file_is_used_without_it(api: LoopbackApi) -> None:
    assert provider(api, keys=[ApiKey(INJECTED_NAME, f" {INJECTED}\n")]).stop().accepted_by == REST_OK


@pytest.mark.parametrize("secret", ["rpa_two words", "rpa_tab\tinside", "rpa_ümlaut", "rpa_a\r\nX-Evil: 1"])
def test_a_key_that_no_header_can_carry_is_not_sent(api: LoopbackApi, secret: str) -> None:
    with pytest.raises(ProviderRefused, match="characters that no key has") as caught:
        provider(api, keys=[ApiKey(INJECTED_NAME, secret)]).stop()
    assert secret not in str(caught.value)
    assert api.requests == []


def test_a_key_shows_its_name_only() -> None:
    assert repr(ApiKey(OWN_NAME, OWN)) == f"ApiKey(name='{OWN_NAME}')"


# --- the Pod's state


def test_a_second_stop_is_accepted_too(api: LoopbackApi) -> None:
    asked = provider(api)
    asked.stop()
    assert asked.stop().accepted_by == f"{REST_OK} (already EXITED)"


def test_a_stop_whose_answer_was_lost_is_found_done_by_the_next(api: LoopbackApi) -> None:
    api.fail(STOP, "close", applied=True)
    assert provider(api).stop() == StopAnswer(
        accepted_by=GRAPHQL_OK, tried=(f"{REST_OK}: the connection to 127.0.0.1 broke (ReadError)",)
    )


def test_a_pod_that_is_gone_counts_as_stopped(api: LoopbackApi) -> None:
    api.pods[POD].status = "TERMINATED"
    assert provider(api).stop().accepted_by == f"{REST_OK} (already TERMINATED)"


def test_a_pod_in_error_can_not_be_stopped_now(api: LoopbackApi) -> None:
    api.pods[POD].status = "ERROR"
    api.grant(INJECTED, (READ, STOP))
    assert "the Pod is ERROR" in str(stop_refusal(provider(api), ProviderUnavailable))


@pytest.mark.parametrize("status", ["PROVISIONING", "STARTING"])
def test_a_pod_that_starts_can_be_stopped(api: LoopbackApi, status: str) -> None:
    api.pods[POD].status = status
    assert provider(api).stop().accepted_by == REST_OK


def lock(pod: LoopbackPod) -> None:
    pod.locked = True


def join_cluster(pod: LoopbackPod) -> None:
    pod.cluster = "cl1"


@pytest.mark.parametrize(("change", "says"), [(lock, "locked"), (join_cluster, "Instant Cluster")])
def test_a_pod_that_must_not_be_stopped_is_only_read(
    api: LoopbackApi, change: Callable[[LoopbackPod], None], says: str
) -> None:
    change(api.pods[POD])
    assert says in str(stop_refusal(provider(api), ProviderRefused))
    assert calls(api) == [READ]


@pytest.mark.parametrize(("change", "says"), [(lock, "locked"), (join_cluster, "Instant Cluster")])
def test_the_reason_of_a_409_is_read_where_the_first_read_failed(
    api: LoopbackApi, change: Callable[[LoopbackPod], None], says: str
) -> None:
    change(api.pods[POD])
    api.fail(READ, status=503)
    api.fail(GQL_READ, status=503)
    assert says in str(stop_refusal(provider(api), ProviderRefused))
    assert calls(api) == [READ, GQL_READ, STOP, READ]


@pytest.mark.parametrize("code", [400, 409, 422])
def test_an_unreadable_lock_is_not_gone_around_by_another_rung(api: LoopbackApi, code: int) -> None:
    """The lock is the owner's wish; a key that can't read may not be told of it by any other words."""
    api.pods[POD].locked = True
    api.grant(INJECTED, (STOP, GQL_STOP))
    api.fail(STOP, status=code)
    error = stop_refusal(provider(api), ProviderUnavailable if code == 409 else ProviderRefused)
    assert "no other way is tried" in str(error)
    assert GQL_STOP not in calls(api)


def test_graphql_knows_no_locks_so_its_read_opens_no_way_around(api: LoopbackApi) -> None:
    api.pods[POD].locked = True
    api.grant(INJECTED, (STOP, GQL_READ, GQL_STOP))
    stop_refusal(provider(api), ProviderUnavailable)
    assert GQL_STOP not in calls(api)


def test_graphql_alone_can_tell_that_it_is_over(api: LoopbackApi) -> None:
    api.pods[POD].status = "EXITED"
    api.grant(INJECTED, (STOP, GQL_READ))
    assert provider(api).stop().accepted_by == f"{REST_OK} (already EXITED)"


@pytest.mark.parametrize("effect", [StopEffect.ONLY_SAID, StopEffect.NOTHING])
def test_accepted_is_all_that_an_answer_proves(api: LoopbackApi, effect: StopEffect) -> None:
    """The provider returns; that the machine goes on is for the daemon to see."""
    api.pods[POD].stop_effect = effect
    assert provider(api).stop().accepted_by == REST_OK


def test_a_read_that_names_another_pod_ends_it(api: LoopbackApi) -> None:
    api.fail(READ, "body", text='{"id": "another1", "status": "RUNNING", "locked": false}')
    assert "another Pod" in str(stop_refusal(provider(api), ProviderRefused))
    assert calls(api) == [READ]


# --- secrets


def test_a_server_that_says_the_key_back_is_not_quoted(api: LoopbackApi) -> None:
    api.fail(STOP, status=401, text=f"bad token {INJECTED} / Bearer {INJECTED.lower()} " + "x" * 180 + OWN)
    api.fail(GQL_STOP, "errors", text=f"Unauthorized: {OWN}")
    error = stop_refusal(both_keys(api, (), ()))
    assert "[key]" in str(error)


def test_a_key_is_redacted_before_the_text_is_cut() -> None:
    for cut in range(150, 205):
        assert OWN[:8] not in redact("x" * cut + " " + OWN, [OWN])


def test_nothing_secret_is_logged(api: LoopbackApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    api.fail(STOP, status=403)
    provider(api).describe()
    provider(api).stop()
    assert caplog.text
    for secret in (INJECTED, *api.pods[POD].env.values()):
        assert secret not in caplog.text


# --- the wire


def test_a_drip_of_bytes_is_abandoned_at_the_deadline(api: LoopbackApi) -> None:
    for call in RIGHTS:
        api.fail(call, "drip", times=None)
    error = stop_refusal(provider(api, call_timeout_s=0.1, total_deadline_s=1.5), ProviderUnavailable)
    assert "no whole answer from 127.0.0.1 within 0.1 s" in str(error)


@pytest.mark.parametrize("kind", ["hang", "drip_head"])
def test_headers_that_do_not_end_are_abandoned_too(api: LoopbackApi, kind: str) -> None:
    api.fail(STOP, kind)
    api.fail(GQL_STOP, kind)
    error = stop_refusal(provider(api, call_timeout_s=0.15), ProviderUnavailable)
    assert str(error).count("no whole answer") == 2


def test_reads_that_hang_leave_time_for_the_stop(api: LoopbackApi) -> None:
    api.fail(READ, "hang", times=None)
    api.fail(GQL_READ, "hang", times=None)
    assert provider(api, call_timeout_s=5.0, total_deadline_s=1.5).stop().accepted_by == REST_OK


def test_no_call_is_begun_past_the_total_deadline(api: LoopbackApi) -> None:
    api.fail(STOP, "hang")
    error = stop_refusal(provider(api, call_timeout_s=5.0, total_deadline_s=0.4), ProviderUnavailable)
    assert "out of time" in str(error)
    assert GQL_STOP not in calls(api)


def test_tls_against_a_plain_port_has_a_clear_text(api: LoopbackApi) -> None:
    secure = {"rest_url": api.rest_url, "graphql_url": api.graphql_url}
    urls = {name: url.replace("http:", "https:") for name, url in secure.items()}
    error = stop_refusal(provider(api, **urls), ProviderUnavailable)
    assert str(error).count("TLS with 127.0.0.1 failed") == 2


def test_an_untrusted_certificate_has_a_clear_text() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "unable to get local issuer certificate"
    outer = ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED]")
    outer.__cause__ = error
    said = transport._why(outer, "api.runpod.io", 10.0)
    assert "certificate of api.runpod.io is not trusted" in said
    assert "unable to get local issuer certificate" in said
    assert "ca-certificates" in said


def test_a_ca_bundle_that_is_missing_is_replaced_by_certifis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    transport.trust.cache_clear()
    usual = transport.trust().cert_store_stats()["x509_ca"]
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/bundle.pem")
    transport.trust.cache_clear()
    found = transport.trust().cert_store_stats()["x509_ca"]
    transport.trust.cache_clear()
    assert found == usual > 50


def test_where_certifis_is_missing_too_that_is_named(api: LoopbackApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/bundle.pem")
    monkeypatch.setattr("certifi.where", lambda: "/nowhere/cacert.pem")
    transport.trust.cache_clear()
    error = stop_refusal(provider(api), ProviderUnavailable)
    transport.trust.cache_clear()
    assert "no CA bundle is there" in str(error)


def test_a_name_that_does_not_exist() -> None:
    url = "http://api.runpod.invalid"
    error = stop_refusal(provider(rest_url=f"{url}/v2", graphql_url=f"{url}/graphql"), ProviderUnavailable)
    assert "api.runpod.invalid could not be resolved" in str(error)


def test_a_port_that_nobody_listens_on() -> None:
    with LoopbackApi(pods=[LoopbackPod(pod_id=POD)]) as gone:
        asked = provider(gone)
    error = stop_refusal(asked, ProviderUnavailable)
    assert "127.0.0.1 refused the connection" in str(error)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/v2", "127.0.0.1/v2", "http://[broken/v2", "http://exa mple/\x00"])
def test_an_address_that_is_none(url: str) -> None:
    stop_refusal(provider(rest_url=url, graphql_url=url), ProviderUnavailable)


def test_a_proxy_for_the_world_is_not_used_on_loopback(api: LoopbackApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert provider(api).stop().accepted_by == REST_OK


# --- refusal, from the environment alone


@pytest.mark.parametrize("variable", WORKER_VARIABLES)
def test_a_serverless_worker_is_never_stopped(api: LoopbackApi, variable: str) -> None:
    asked = provider(api, environment={"RUNPOD_POD_ID": POD, variable: "x"})
    said = asked.refusal()
    assert said is not None
    assert variable in said
    assert "Serverless" in said
    assert str(stop_refusal(asked, ProviderRefused)) == said
    with pytest.raises(ProviderRefused):
        asked.describe()
    assert api.requests == []


def test_an_empty_worker_variable_is_none() -> None:
    assert provider(environment={"RUNPOD_ENDPOINT_ID": ""}).refusal() is None


def test_without_an_id_nothing_is_guessed_and_the_source_says_where_it_was_looked_for(api: LoopbackApi) -> None:
    source = "neither /proc/1/environ nor /etc/rp_environment has RUNPOD_POD_ID"
    asked = provider(api, identity=identity(None, source), environment={})
    assert source in str(stop_refusal(asked, ProviderRefused))
    assert api.requests == []


def test_two_ids_are_a_refusal(api: LoopbackApi) -> None:
    asked = provider(api, environment={"RUNPOD_POD_ID": "another1"})
    assert "two Pod ids" in (asked.refusal() or "")
    stop_refusal(asked, ProviderRefused)
    assert api.requests == []


@pytest.mark.parametrize("pod_id", ["", "../pods", "a/b", "abc?x=1", "abc def", "a" * 65, "abc\n", "ä", "-abc", "%2e"])
def test_an_id_with_odd_characters_is_refused(api: LoopbackApi, pod_id: str) -> None:
    asked = provider(api, identity=identity(pod_id), environment={})
    assert "characters that no Pod id has" in (asked.refusal() or "")
    stop_refusal(asked, ProviderRefused)
    assert api.requests == []


def test_a_good_pod_has_no_refusal_and_fits_the_protocol() -> None:
    fitting: Provider = provider()
    assert fitting.refusal() is None
    assert PROVIDERS["runpod"] is RunpodProvider


@pytest.mark.slow
def test_the_daemon_can_import_the_providers_without_an_http_library() -> None:
    code = "import sys, idlewatch.providers; sys.exit('httpx' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


# --- describe


def test_describe_reads_price_volume_and_state(api: LoopbackApi) -> None:
    assert provider(api).describe() == PodFacts(
        pod_id=POD,
        status="RUNNING",
        usd_per_hour=1.59,
        locked=False,
        cluster=False,
        volume_path="/workspace",
        name="loopback",
    )
    assert calls(api) == [READ]


def test_describe_tells_locks_clusters_and_network_volumes(api: LoopbackApi) -> None:
    pod = api.pods[POD]
    pod.locked, pod.cluster, pod.network_volume_id, pod.volume_path = True, "cl1", "vol1", "/runpod"
    facts = provider(api).describe()
    assert (facts.locked, facts.cluster, facts.volume_path) == (True, True, "/runpod")
    pod.volume_path = None
    assert provider(api).describe().volume_path is None


def test_describe_falls_back_to_graphql_and_asks_about_this_pod_only(api: LoopbackApi) -> None:
    api.grant(INJECTED, (GQL_READ,))
    facts = provider(api).describe()
    assert (facts.status, facts.usd_per_hour, facts.volume_path) == ("RUNNING", 1.59, "/workspace")
    assert calls(api) == [READ, GQL_READ]
    assert "myself" not in json.dumps(api.requests[-1].body)
    assert "env" not in json.dumps(api.requests[-1].body)


def test_graphql_names_no_volume_where_it_tells_of_none(api: LoopbackApi) -> None:
    api.grant(INJECTED, (GQL_READ,))
    api.pods[POD].volume_path = None
    assert provider(api).describe().volume_path is None


@pytest.mark.parametrize(
    ("rest", "graphql", "error"),
    [
        ({"status": 403}, {"kind": "errors", "text": "Unauthorized"}, ProviderRefused),
        ({"status": 403}, {"kind": "body", "text": '{"data":{"pod":null}}'}, ProviderRefused),
        ({"status": 503}, {"kind": "errors", "text": "Unauthorized"}, ProviderUnavailable),
        ({"status": 403}, {"kind": "drip"}, ProviderUnavailable),
        ({"kind": "edge_1010"}, {"kind": "edge_1010"}, ProviderUnavailable),
        ({"status": 409}, {"status": 403}, ProviderUnavailable),
        ({"status": 422}, {"status": 403}, ProviderRefused),
    ],
)
def test_describe_says_why_it_could_not(
    api: LoopbackApi, rest: dict[str, Any], graphql: dict[str, Any], error: type[ProviderError]
) -> None:
    api.fail(READ, **rest)
    api.fail(GQL_READ, **graphql)
    call_timeout_s = 0.2 if graphql.get("kind") == "drip" else 5.0
    with pytest.raises(ProviderError) as caught:
        provider(api, call_timeout_s=call_timeout_s).describe()
    assert type(caught.value) is error
    assert_no_secret(caught.value)
    assert REST_OK in str(caught.value)
    assert GRAPHQL_OK in str(caught.value)


@pytest.mark.parametrize("cost", ["NaN", "Infinity", "-1", "true", '"1.59"', "null", "1e400", "9" * 400])
def test_a_price_that_is_none_is_unknown(api: LoopbackApi, cost: str) -> None:
    api.fail(READ, "body", text=f'{{"id": "{POD}", "status": "RUNNING", "locked": false, "cost": {cost}}}')
    assert provider(api).describe().usd_per_hour is None


def test_a_lock_that_is_no_boolean_is_not_known_to_be_open() -> None:
    answer = Answer(status=200, body=json.dumps({"id": POD, "status": "RUNNING", "locked": "no"}).encode())
    read = rest_pod(answer, [])
    assert isinstance(read, PodRead)
    assert not read.lock_known


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"id":' * 100_000, b"9" * 5000, b"\xff\xfe", b"\x00"])
def test_a_body_made_to_break_a_parser_is_no_pod(body: bytes) -> None:
    for said in (rest_pod(Answer(status=200, body=body), []), graphql_pod(Answer(status=200, body=body), "pod", [])):
        assert isinstance(said, Verdict)
        assert said.passing


# --- properties

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
bodies = st.binary(max_size=200) | documents.map(lambda document: json.dumps(document).encode())
statuses = st.sampled_from(["EXITED", "RUNNING", "TERMINATED", "exited", "PAUSED", "", None, 1, True, ["EXITED"]])
near_pods = st.fixed_dictionaries(
    {}, optional={"id": st.sampled_from([POD, "another1", "", None, 1]), "status": statuses, "desiredStatus": statuses}
)
near_answers = st.fixed_dictionaries(
    {},
    optional={
        "data": st.fixed_dictionaries({}, optional={"podStop": near_pods | scalars}) | scalars,
        "errors": st.sampled_from([[], None, ["x"], [{"message": "x"}], "x", {}, 0, True]),
    },
)
codes = st.sampled_from([200, 201, 202, 204, 206, 301, 400, 403, 409, 500])


@pytest.mark.slow
@given(body=bodies, code=codes)
@settings(deadline=None, max_examples=300)
def test_no_chance_answer_is_a_pod(body: bytes, code: int) -> None:
    answer = Answer(status=code, body=body)
    for said in (rest_pod(answer, [OWN]), graphql_pod(answer, "podStop", [OWN])):
        assert isinstance(said, Verdict)
        assert said.said is not Said.YES


@given(pod=near_pods | near_answers, code=codes)
@settings(deadline=None, max_examples=300)
def test_rest_takes_nothing_but_a_200_with_an_id_and_a_known_status(pod: dict[str, Any], code: int) -> None:
    said = rest_pod(Answer(status=code, body=json.dumps(pod).encode()), [])
    good = code == HTTPStatus.OK and isinstance(pod.get("id"), str)
    good = good and pod.get("status") in ("EXITED", "RUNNING", "TERMINATED")
    assert isinstance(said, PodRead) == good


@pytest.mark.slow
@given(document=near_answers | near_pods, code=codes)
@settings(deadline=None, max_examples=300)
def test_graphql_takes_nothing_with_errors_beside_it(document: dict[str, Any], code: int) -> None:
    said = graphql_pod(Answer(status=code, body=json.dumps(document).encode()), "podStop", [])
    if isinstance(said, PodRead):
        assert code == HTTPStatus.OK
        assert not document.get("errors") or document["errors"] in ([], None)
        assert document["data"]["podStop"]["id"] == said.facts.pod_id


@pytest.fixture(scope="module")
def shared_api() -> Iterator[LoopbackApi]:
    with LoopbackApi(pods=[LoopbackPod(pod_id=POD)], keys=[INJECTED]) as running:
        yield running


@given(rest=bodies, graphql=bodies)
@settings(deadline=None, max_examples=25)
def test_over_the_wire_no_chance_answer_is_accepted(shared_api: LoopbackApi, rest: bytes, graphql: bytes) -> None:
    shared_api.fail(STOP, "body", text=rest.decode("latin-1"))
    shared_api.fail(GQL_STOP, "body", text=graphql.decode("latin-1"))
    stop_refusal(provider(shared_api))
    assert shared_api.pods[POD].status == "RUNNING"


@given(header=st.text(max_size=30) | st.integers().map(str))
def test_a_wait_is_whole_seconds_up_to_an_hour_or_nothing(header: str) -> None:
    waits = retry_after_s(header)
    assert waits is None or 0 <= waits <= 3600


@given(text=st.text(max_size=400), at=st.integers(0, 400))
def test_no_text_brings_a_key_out(text: str, at: int) -> None:
    assert OWN not in redact(text[:at] + OWN + text[at:], [OWN, INJECTED])


@pytest.mark.parametrize(("code", "means"), [(401, "RunPod does not know it"), (403, "It lacks the right")])
def test_where_every_key_is_refused_alike_the_text_leaves_room_for_the_remedy(
    api: LoopbackApi, code: int, means: str
) -> None:
    for call in (STOP, GQL_STOP):
        api.fail(call, status=code, text="bad key", times=None)
    told = str(stop_refusal(both_keys(api, (), ()), ProviderRefused))
    assert told.count(str(code)) == 1
    assert f"every key was refused: {code}" in told
    assert means in told
    assert "IDLEWATCH_RUNPOD_API_KEY, would help" in told
    assert len(told) < 240
