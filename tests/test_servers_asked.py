"""What each product's real answers tell, in several versions, and what becomes of every fault."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from idlewatch.errors import SignalError
from idlewatch.model import Activity, Finding, Json, Reading, Surroundings
from idlewatch.servers.asking import Answer
from idlewatch.servers.counts import Counts, llama_sleep
from idlewatch.servers.named import NamedServer, named_servers
from idlewatch.signals.servers import ServersSignal
from tests.own_kernel import OwnKernel


@dataclass
class Product:
    """A server on loopback: path to status and body; what is not there is 404."""

    pages: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    """Not set: it takes requests and does not answer."""

    def __post_init__(self) -> None:
        self.held.set()
        product = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the parent's name
                """Say nothing."""

            def do_GET(self) -> None:
                product.asked.append(self.path)
                product.held.wait(60)
                status, body = product.pages.get(self.path, (404, ""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self.http.server_address[1])
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def says(self, path: str, body: Json | str, status: int = 200) -> None:
        self.pages[path] = status, body if isinstance(body, str) else json.dumps(body)

    def close(self) -> None:
        self.held.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(20)


@pytest.fixture
def product() -> Iterator[Product]:
    product = Product()
    yield product
    product.close()


class Watch:
    """The signal as the daemon calls it: ticks on a clock of its own until a round has ended."""

    def __init__(self, *named: NamedServer) -> None:
        self.now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.signal = ServersSignal(Surroundings(), kernel=OwnKernel(), named=named)

    def look(self, after_s: float = 30.0) -> Finding:
        """The verdict of the next round."""
        self.now_s += after_s
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            reading = self.read()
            if self.signal._round is None:
                return self.signal.judge(reading)
            time.sleep(0.005)
        raise AssertionError("the round never ended")

    def read(self) -> Reading:
        try:
            return self.signal.read(self.now_s)
        except SignalError as error:
            return Reading(signal="servers", at_s=self.now_s, error=str(error))

    def close(self) -> None:
        self.signal.close()


@pytest.fixture
def watches() -> Iterator[list[Watch]]:
    watches: list[Watch] = []
    yield watches
    for watch in watches:
        watch.close()


class Asked:
    """A product of a kind, watched from its first answer on."""

    def __init__(
        self, product: Product, watches: list[Watch], kind: str | None, **named: str | tuple[str, ...]
    ) -> None:
        self.product = product
        self.watch = Watch(NamedServer(port=product.port, kind=kind, **({"name": kind} if kind else {}), **named))  # type: ignore[arg-type]  # the fields of NamedServer
        watches.append(self.watch)

    def then(self, path: str, body: Json | str, status: int = 200) -> Finding:
        self.product.says(path, body, status)
        return self.watch.look()


Ask = Callable[..., Asked]


@pytest.fixture
def asked(product: Product, watches: list[Watch]) -> Ask:
    return partial(Asked, product, watches)


METRICS = {
    # vllm/engine/metrics.py (V0) and vllm/v1/metrics/loggers.py, each as prometheus_client writes it
    "vLLM 0.6": (
        "vllm",
        """\
# HELP vllm:num_requests_running Number of requests currently running on GPU.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{model_name="m"}} {running}.0
# TYPE vllm:num_requests_swapped gauge
vllm:num_requests_swapped{{model_name="m"}} 0.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{{model_name="m"}} {prompt}.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{model_name="m"}} {generated}.0
# TYPE vllm:request_success_total counter
vllm:request_success_total{{finished_reason="stop",model_name="m"}} {requests}.0
""",
    ),
    "vLLM V1, two engines": (
        "vllm",
        """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="m"}} {running}.0
vllm:num_requests_running{{engine="1",model_name="m"}} 0.0
vllm:num_requests_waiting{{engine="0",model_name="m"}} 0.0
vllm:prompt_tokens_total{{engine="0",model_name="m"}} 5.0
vllm:prompt_tokens_total{{engine="1",model_name="m"}} {prompt}.0
vllm:prompt_tokens_created{{engine="0",model_name="m"}} 1.7e+09
vllm:generation_tokens_total{{engine="0",model_name="m"}} {generated}.0
vllm:request_success_total{{engine="0",finished_reason="length",model_name="m"}} {requests}.0
vllm:request_success_total{{engine="1",finished_reason="abort",model_name="m"}} 0.0
vllm:iteration_tokens_total_sum{{engine="0",model_name="m"}} 7.0
""",
    ),
    "vLLM with underscores": (
        "vllm",
        """\
vllm_num_requests_running {running}
vllm_prompt_tokens_total {prompt}
vllm_generation_tokens_total {generated}
vllm_request_success_total{{finished_reason="stop"}} {requests}
""",
    ),
    "SGLang": (
        "sglang",
        """\
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{{model_name="m"}} {prompt}.0
sglang:generation_tokens_total{{model_name="m"}} {generated}.0
sglang:num_requests_total{{model_name="m"}} {requests}.0
sglang:num_running_reqs{{model_name="m",tp_rank="0"}} {running}.0
sglang:num_queue_reqs{{model_name="m",tp_rank="0"}} 0.0
""",
    ),
    "SGLang before it counted requests": (
        "sglang",
        """\
sglang:prompt_tokens_total{{name="m"}} {prompt}.0
sglang:generation_tokens_total{{name="m"}} {generated}.0
sglang:num_running_reqs{{name="m"}} {running}.0
""",
    ),
    "TGI": (
        "tgi",
        """\
# TYPE tgi_request_count counter
tgi_request_count {requests}
# TYPE tgi_request_input_length histogram
tgi_request_input_length_bucket{{le="40.95"}} 1
tgi_request_input_length_sum {prompt}
tgi_request_input_length_count {requests}
tgi_request_generated_tokens_sum {generated}
tgi_batch_inference_count{{method="decode"}} {generated}
tgi_batch_current_size {running}
tgi_queue_size 0
""",
    ),
    "llama.cpp": (
        "llamacpp",
        """\
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total {prompt}
llamacpp:tokens_predicted_total {generated}
llamacpp:n_decode_total {generated}
llamacpp:requests_processing {running}
llamacpp:requests_deferred 0
""",
    ),
    "Triton": (
        "triton",
        """\
# TYPE nv_inference_request_success counter
nv_inference_request_success{{model="m",version="1"}} {requests}
nv_inference_request_failure{{model="m",version="1"}} 0
nv_inference_count{{model="m",version="1"}} {requests}
nv_inference_exec_count{{model="m",version="1"}} {requests}
nv_inference_pending_request_count{{model="m",version="1"}} {running}
nv_gpu_utilization{{gpu_uuid="GPU-1"}} 0
""",
    ),
}


@pytest.mark.parametrize(("kind", "page"), METRICS.values(), ids=METRICS)
def test_each_products_metrics(asked: Ask, kind: str, page: str) -> None:
    def text(requests: int, prompt: int, generated: int, running: int = 0) -> str:
        return page.format(requests=requests, prompt=prompt, generated=generated, running=running)

    here = asked(kind)
    assert here.then("/metrics", text(3, 40, 50)).activity is Activity.UNKNOWN
    assert here.then("/metrics", text(3, 40, 50)).activity is Activity.QUIET
    used = here.then("/metrics", text(5, 440, 150))
    assert used.activity is Activity.ACTIVE
    assert "2 requests" in used.reason or "500 tokens" in used.reason
    still = here.then("/metrics", text(5, 440, 150, running=1))
    assert here.then("/metrics", text(5, 440, 150)).activity is Activity.QUIET
    assert still.bars
    assert set(here.product.asked) == {"/metrics"}


@pytest.mark.parametrize(
    ("kind", "unused", "first"),
    [
        ("tgi", "", "tgi_request_count 1\ntgi_request_generated_tokens_sum 9\n"),
        ("tgi", "tgi_batch_max_total_tokens 9000\n", "tgi_request_count 1\ntgi_request_generated_tokens_sum 9\n"),
        ("sglang", "", "sglang:prompt_tokens_total 9\nsglang:generation_tokens_total 9\n"),
        ("triton", "nv_gpu_utilization 0\n", 'nv_inference_request_success{model="m"} 1\n'),
        ("vllm", "# TYPE vllm:request_success_total counter\n", 'vllm:request_success_total{a="b"} 3\n'),
    ],
)
def test_a_server_that_was_never_used_is_quiet(asked: Ask, kind: str, unused: str, first: str) -> None:
    here = asked(kind)
    here.then("/metrics", unused)
    assert here.then("/metrics", unused).activity is Activity.QUIET
    assert here.then("/metrics", first).activity is Activity.ACTIVE


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("vllm", ""),
        ("vllm", "vllm:num_requests_running 0\nvllm:finished_requests 3\n"),
        ("vllm", "tgi_request_count 3\n"),
        ("sglang", "sglang:num_running_reqs 0\n"),
        ("sglang", "vllm:request_success_total 0\n"),
        ("tgi", "tgi_requests 3\n"),
        ("triton", "nv_inference_successes 3\n"),
    ],
)
def test_a_counter_that_is_not_found_is_unknown_and_not_nothing(asked: Ask, kind: str, page: str) -> None:
    found = asked(kind).then("/metrics", page)
    assert found.activity is Activity.UNKNOWN
    assert "shows no counter of requests or tokens (looked for " in found.reason


def test_a_server_without_its_metrics_says_what_its_owner_can_do(asked: Ask) -> None:
    found = asked("sglang").watch.look()
    assert found.activity is Activity.UNKNOWN
    assert found.reason.endswith("has no /metrics (HTTP 404); start it with --enable-metrics")


SLOT: dict[str, Json] = {"id": 0, "id_task": -1, "is_processing": False, "next_token": {"n_decoded": 0}}


@pytest.mark.parametrize("many", [False, True], ids=["next_token is an object", "next_token is an array"])
def test_llama_cpp_without_metrics_shows_its_slots(asked: Ask, many: bool) -> None:  # noqa: FBT001 -- a parameter
    def slots(task: int, decoded: int, *, busy: bool = False) -> Json:
        following: Json = {"n_decoded": decoded}
        return [
            SLOT,
            {**SLOT, "id": 1, "id_task": task, "is_processing": busy, "next_token": [following] if many else following},
        ]

    here = asked("llamacpp")
    here.product.says(
        "/metrics", {"error": {"code": 501, "message": "This server does not support metrics endpoint."}}, 501
    )
    here.then("/slots", slots(4, 30))
    assert here.then("/slots", slots(4, 30)).activity is Activity.QUIET
    assert here.then("/slots", slots(9, 1, busy=True)).activity is Activity.ACTIVE
    moves = here.then("/slots", slots(9, 90, busy=True))
    assert (moves.activity, "1 request runs" in moves.reason) == (Activity.ACTIVE, True)
    assert here.then("/slots", slots(9, 90)).activity is Activity.QUIET


def test_llama_cpp_that_loads_its_model_is_unknown(asked: Ask) -> None:
    found = asked("llamacpp").then("/metrics", {"error": {"code": 503, "message": "Loading model"}}, 503)
    assert (found.activity, found.reason.endswith("answers HTTP 503 to /metrics")) == (Activity.UNKNOWN, True)


def test_a_router_of_llama_cpp_serves_nothing_itself(asked: Ask) -> None:
    found = asked("llamacpp").then("/metrics", {"error": {"message": "model name is missing from the request"}}, 400)
    assert (found.activity, found.bars) == (Activity.QUIET, False)
    assert found.reason.endswith("only hands requests on")


def test_llama_cpp_that_sleeps_and_wakes() -> None:
    def told(*, sleeping: bool) -> Counts:
        return llama_sleep(
            Answer(path="/props", asked_s=0.0, status=200, body=json.dumps({"is_sleeping": sleeping}).encode())
        )

    assert told(sleeping=True).marks == {}
    assert told(sleeping=False).marks == {"awake": "yes"}


def test_ollama_puts_off_unloading_with_every_request(asked: Ask) -> None:
    def models(*until: str) -> Json:
        return {"models": [{"name": f"m{number}", "expires_at": stamp} for number, stamp in enumerate(until)]}

    here = asked("ollama")
    here.then("/api/ps", models())
    assert here.then("/api/ps", models("2026-11-24T12:05:00Z")).activity is Activity.ACTIVE
    assert here.then("/api/ps", models("2026-11-24T12:05:00Z")).activity is Activity.QUIET
    assert here.then("/api/ps", models("2026-11-24T12:06:00Z")).activity is Activity.ACTIVE
    assert here.then("/api/ps", models()).activity is Activity.QUIET
    assert set(here.product.asked) == {"/api/ps"}


def test_comfyui_by_its_queue_and_its_newest_prompt(asked: Ask) -> None:
    def history(last: str | None) -> str:
        return json.dumps({last: {"prompt": [1, last, {"big": "x" * 5_000_000}], "outputs": {}}} if last else {})

    here = asked("comfyui")
    here.product.says("/prompt", {"exec_info": {"queue_remaining": 0}})
    here.then("/history?max_items=1", history(None))
    assert here.then("/history?max_items=1", history("a-1")).activity is Activity.ACTIVE
    assert here.then("/history?max_items=1", history("a-1")).activity is Activity.QUIET
    running = here.then("/prompt", {"exec_info": {"queue_remaining": 2}})
    assert "2 requests run" in running.reason
    assert here.then("/history?max_items=1", "[]").activity is Activity.UNKNOWN


def test_web_ui_by_its_jobs(asked: Ask) -> None:
    def progress(stamp: str, count: int = 0, job: str = "", step: int = 0) -> Json:
        state: Json = {"job": job, "job_count": count, "job_timestamp": stamp, "job_no": 0, "sampling_step": step}
        return {"progress": 0.0, "eta_relative": 0.0, "state": state, "current_image": None}

    here, path = asked("webui"), "/sdapi/v1/progress?skip_current_image=true"
    here.then(path, progress("0"))
    assert here.then(path, progress("20261124120000", -1, "task(1)")).activity is Activity.ACTIVE
    assert here.then(path, progress("20261124120000", 1, "task(1)", 7)).activity is Activity.ACTIVE
    assert here.then(path, progress("20261124120000", 1, "task(1)", 7)).notice is None
    done = here.then(path, progress("20261124120000", 0, "", 20))
    assert (done.activity, done.bars) == (Activity.QUIET, True)


GRADIO: dict[str, tuple[str, Callable[[int], Json]]] = {
    "Gradio 3, and 4 up to 4.8": (
        "/queue/status",
        lambda n: {"msg": "estimation", "queue_size": 0, "avg_event_process_time": n * 1.5, "queue_eta": 0},
    ),
    "Gradio 5.49 and later": (
        "/monitoring/summary",
        lambda n: {
            "functions": {"predict": {"success_rate": 1.0, "total_requests": n}, "clear": {"total_requests": 4}}
        },
    ),
}


@pytest.mark.parametrize("version", GRADIO)
@pytest.mark.parametrize("kind", ["gradio", "webui"])
def test_gradio_by_its_events(asked: Ask, version: str, kind: str) -> None:
    path, status = GRADIO[version]
    here = asked(kind)
    here.product.says("/gradio_api/queue/status", {"msg": "estimation", "queue_size": 0})
    if path == "/queue/status":
        del here.product.pages["/gradio_api/queue/status"]
    here.then(path, status(3))
    assert here.then(path, status(3)).activity is Activity.QUIET
    assert here.then(path, status(4)).activity is Activity.ACTIVE


def test_gradio_that_shows_only_its_queue(asked: Ask) -> None:
    here = asked("gradio")
    here.product.says("/monitoring/summary", {"detail": "Monitoring is not enabled."}, 403)
    here.then("/gradio_api/queue/status", {"msg": "estimation", "queue_size": 0})
    assert here.then("/gradio_api/queue/status", {"msg": "estimation", "queue_size": 0}).activity is Activity.QUIET
    assert here.then("/gradio_api/queue/status", {"msg": "estimation", "queue_size": 3}).bars


# ---------------------------------------------------------------- pages that the owner names


ROUTED = """\
# TYPE http_requests_total counter
http_requests_total{{handler="/metrics",method="GET"}} {polls}
http_requests_total{{handler="/healthz",method="GET"}} {polls}
http_requests_total{{handler="/render",method="POST"}} {work}
# TYPE http_requests_created gauge
http_requests_created{{handler="/render"}} 1.7e9
"""


def test_any_page_by_its_requests_without_scrapes_and_polls(asked: Ask) -> None:
    here = asked(None)
    here.then("/metrics", ROUTED.format(polls=1, work=5))
    assert here.then("/metrics", ROUTED.format(polls=80, work=5)).activity is Activity.QUIET
    assert here.then("/metrics", ROUTED.format(polls=90, work=7)).reason.endswith(": 2 requests in the last 30s")


def test_any_page_without_routes_leaves_out_our_own_question(asked: Ask) -> None:
    here = asked(None)
    page = "# TYPE request_seconds histogram\nrequest_seconds_sum 9.5\nrequest_seconds_count {}\n"
    here.then("/metrics", page.format(7))
    assert here.then("/metrics", page.format(8)).activity is Activity.QUIET
    assert here.then("/metrics", page.format(10)).activity is Activity.ACTIVE


def test_any_page_of_a_known_product_is_read_as_such(asked: Ask) -> None:
    here = asked(None, path="/v2/metrics")
    here.then("/v2/metrics", "llamacpp:tokens_predicted_total 4\n")
    assert here.then("/v2/metrics", "llamacpp:tokens_predicted_total 40\n").reason.endswith(
        ": 36 tokens in the last 30s"
    )


def test_any_page_by_the_counters_that_are_named(asked: Ask) -> None:
    here = asked(None, counters=("jobs_done", "jobs_failed"))
    here.then("/metrics", "jobs_done 1\njobs_failed 1\nrequests_total 1\n")
    assert here.then("/metrics", "jobs_done 1\njobs_failed 2\nrequests_total 9\n").activity is Activity.QUIET  # ours
    assert here.then("/metrics", "jobs_done 5\njobs_failed 2\n").activity is Activity.ACTIVE
    lost = here.then("/metrics", "jobs_done 5\n")
    assert (lost.activity, lost.reason.endswith("shows no jobs_failed")) == (Activity.UNKNOWN, True)


def test_a_page_without_any_counter_of_requests_is_unknown_and_says_what_to_write(asked: Ask) -> None:
    found = asked(None).then("/metrics", "# TYPE requests_now gauge\nrequests_now 3\nup 1\n")
    assert found.activity is Activity.UNKNOWN
    assert found.reason.endswith("shows no counter of requests; name one: IDLEWATCH_SERVERS=PORT/metrics#NAME")


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, "<html>no</html>\n", "line 1 of its metrics is no metric"),
        (200, "vllm:request_success_total 1", "end in the middle of a line"),
        (200, "vllm:request_success_total NaN\n", "its vllm:request_success_total is no number"),
        (200, "x" * (5 << 20), "answers with more than 4194304 bytes"),
        (401, "", "wants a key or a password for /metrics"),
        (404, "", "has no /metrics (HTTP 404)"),
        (500, "boom s3cr3t", "answers HTTP 500 to /metrics"),
    ],
)
def test_every_other_answer_is_unknown_in_words(asked: Ask, status: int, body: str, words: str) -> None:
    found = asked("vllm").then("/metrics", body, status)
    assert found.activity is Activity.UNKNOWN
    assert words in found.reason
    assert "s3cr3t" not in found.reason


def test_a_server_that_hangs_keeps_no_tick_waiting_and_is_unknown(asked: Ask) -> None:
    here = asked("vllm")
    here.then("/metrics", "vllm:request_success_total 3\n")
    here.product.held.clear()
    here.watch.now_s += 30
    before = here.watch.read()
    assert here.watch.read() is before  # nothing new yet, and no waiting for it
    found = here.watch.look(13.0)
    assert (found.activity, found.reason.endswith("no whole answer in 10 s")) == (Activity.UNKNOWN, True)
    here.product.held.set()
    here.product.says("/metrics", "vllm:request_success_total 9\n")
    later = (here.watch.look() for _ in range(100))  # the thread that hung may need a moment to end
    assert next(each for each in later if each.activity is not Activity.UNKNOWN).activity is Activity.ACTIVE


def test_it_is_asked_every_30_s_at_most(asked: Ask) -> None:
    here = asked("vllm")
    here.then("/metrics", "vllm:request_success_total 3\n")
    for _ in range(11):
        here.watch.now_s += 5
        here.watch.look(0.0)
    assert len(here.product.asked) == 2


def test_nobody_on_a_named_port_is_absent(watches: list[Watch]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    watches.append(Watch(*named_servers([f"{port}/metrics"])))
    found = watches[0].look()
    assert found.activity is Activity.ABSENT
    assert found.reason.startswith(f"nothing listens on port {port}, which IDLEWATCH_SERVERS names; none of ")
