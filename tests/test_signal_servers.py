"""Servers of models: what counts as use of them, how they are recognised, and what each product's answers tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from idlewatch.kernel import KernelTables
from idlewatch.model import Activity, Finding, Json, Reading, Surroundings
from idlewatch.servers.known import KNOWN
from idlewatch.servers.named import NamedServer, named_servers
from idlewatch.servers.recognise import known_server, own_port, with_tls
from idlewatch.signals.servers import ServersSignal

HOUR = 3600.0
NOW = 50_000.0
TICK = 30.0

# ---------------------------------------------------------------- judging, from made-up readings


def server(**facts: Json) -> dict[str, Json]:
    """An idle vLLM that has counted something."""
    return {
        "id": "vllm 7 100",
        "name": "vLLM on port 8000",
        "kind": "vllm",
        "state": "asked",
        "error": None,
        "pid": 7,
        "pids": [7, 8],
        "started_s": NOW - HOUR,
        "requests": 10.0,
        "prompt_tokens": 1000.0,
        "generated_tokens": 2000.0,
        "steps": None,
        "running": 0.0,
        "marks": {},
        "counts_ours": False,
        "asked": 0,
        "cpu_cores": 0.0,
        "clients": 0,
        "inside": False,
        **facts,
    }


@dataclass
class Story:
    """Readings every 30 s, and the verdict on each."""

    now_s: float = NOW
    facts: dict[str, Json] = field(default_factory=server)
    signal: ServersSignal = field(default_factory=lambda: ServersSignal(Surroundings(), kernel=KernelTables()))

    def then(self, after_s: float = TICK, **changes: Json) -> Finding:
        self.now_s += after_s
        self.facts |= changes
        return self.of([self.facts])

    def of(self, servers: list[dict[str, Json]]) -> Finding:
        facts: dict[str, Json] = {"missing": [], "servers": [dict(each) for each in servers]}
        return self.signal.judge(Reading(signal="servers", at_s=self.now_s, covers_s=TICK, facts=facts))

    def more(self, requests: float = 0, prompt: float = 0, generated: float = 0, **changes: Json) -> Finding:
        gained = {"requests": requests, "prompt_tokens": prompt, "generated_tokens": generated}
        grown: dict[str, Any] = {name: self.facts[name] + number for name, number in gained.items()}  # type: ignore[operator]  # numbers
        return self.then(**grown | changes)


@pytest.fixture
def story() -> Story:
    story = Story()
    assert story.then().activity is Activity.UNKNOWN  # nothing to compare with yet
    return story


def test_requests_and_tokens_are_use(story: Story) -> None:
    found = story.more(3, 300, 112)
    assert (found.activity, found.evidence_s) == (Activity.ACTIVE, story.now_s)
    assert found.reason == "vLLM on port 8000: 3 requests, 412 tokens in the last 30s"


def test_a_long_answer_that_is_streamed_is_use_though_no_request_has_ended(story: Story) -> None:
    found = story.more(0, 0, 900, running=1.0)
    assert found.activity is Activity.ACTIVE
    assert found.reason == "vLLM on port 8000: 1 request runs, 900 tokens in the last 30s"


def test_a_model_in_memory_without_requests_is_quiet(story: Story) -> None:
    found = story.then()
    assert (found.activity, found.bars, found.notice) == (Activity.QUIET, False, None)
    assert found.reason == "vLLM on port 8000: no requests"
    assert (found.seen_from_s, found.seen_to_s) == (story.now_s - TICK, story.now_s)


@pytest.mark.parametrize(
    ("polls", "prompt", "generated"), [(6, 12, 6), (6, 6, 6), (1, 1, 1), (0, 2, 1), (6, 14, 7), (6, 0, 0)]
)
def test_health_polls_are_no_use(story: Story, polls: float, prompt: float, generated: float) -> None:
    found = story.more(polls, prompt, generated)
    assert (found.activity, found.bars) == (Activity.QUIET, False)
    assert found.reason == "vLLM on port 8000: only health polls"


@pytest.mark.parametrize(("prompt", "generated"), [(300, 1), (12, 40)])
def test_one_request_among_health_polls_is_use(story: Story, prompt: float, generated: float) -> None:
    assert story.more(6, prompt, generated).activity is Activity.ACTIVE


def test_a_warm_server_bars_until_the_cap_since_its_last_request(story: Story) -> None:
    story.more(1, 50, 50)
    warm = story.then(HOUR)
    assert (warm.activity, warm.bars, warm.evidence_s) == (Activity.QUIET, True, None)
    assert warm.reason == "vLLM on port 8000: no requests for 1h; bars the warning for 2h more"
    assert story.more(6, 6, 6).bars  # polls are no request, nor do they end the wait
    assert not story.then(2 * HOUR).bars


def test_requests_of_the_pods_own_programs_leave_no_warm_server(story: Story) -> None:
    assert story.more(5, 500, 500, clients=1, inside=True).activity is Activity.ACTIVE
    assert not story.then(clients=0, inside=False).bars


def test_what_runs_and_does_not_move_bars_to_the_cap_with_a_notice_then_stands_aside(story: Story) -> None:
    story.then()
    first = story.then(running=1.0)
    assert (first.activity, first.bars, first.notice) == (Activity.QUIET, True, None)
    later = story.then(600.0)
    assert later.bars
    assert later.notice == (
        "vLLM on port 8000 says that 1 request runs, and nothing moves: it may hang; "
        "it keeps this Pod for 3h at the most"
    )
    last = story.then(3 * HOUR)
    assert (last.activity, last.bars, last.notice) == (Activity.QUIET, False, later.notice)


def test_health_polls_do_not_make_a_hung_request_move(story: Story) -> None:
    story.then(running=1.0)
    for _ in range(400):
        found = story.more(1, 1, 1)
    assert (found.activity, found.bars) == (Activity.QUIET, False)


def test_cpu_makes_what_runs_count_only_above_what_the_server_spins(story: Story) -> None:
    assert story.then(running=1.0, cpu_cores=2.1).activity is Activity.QUIET  # how much it spins is not known yet
    story.then(running=0.0, cpu_cores=2.0)
    assert story.then(running=1.0, cpu_cores=2.02).activity is Activity.QUIET
    found = story.then(running=1.0, cpu_cores=3.5)
    assert found.activity is Activity.ACTIVE
    assert found.reason == "vLLM on port 8000: 1 request runs, CPU 150% of a core in the last 30s"


def test_cpu_alone_is_no_use_of_a_server_with_counters(story: Story) -> None:
    assert story.then(cpu_cores=0.0).activity is Activity.QUIET
    assert story.then(cpu_cores=8.0, clients=5).activity is Activity.QUIET


def test_steps_make_what_runs_count_and_prove_nothing_alone() -> None:
    story = Story(facts=server(kind="llamacpp", requests=None, steps=5.0))
    story.then()
    assert story.then(steps=50.0).activity is Activity.QUIET
    assert story.then(steps=90.0, running=1.0).activity is Activity.ACTIVE


def test_counters_that_go_back_are_a_restart_and_counted_anew(story: Story) -> None:
    back = story.then(requests=0.0, prompt_tokens=0.0, generated_tokens=0.0)
    assert back.activity is Activity.UNKNOWN
    assert "went back" in back.reason
    assert story.then().activity is Activity.QUIET
    assert story.more(1, 20, 20).activity is Activity.ACTIVE


def test_a_counter_that_appears_has_counted_from_nothing() -> None:
    story = Story(facts=server(kind="tgi", requests=0.0, prompt_tokens=None, generated_tokens=None))
    story.then()
    assert story.then(requests=1.0, prompt_tokens=40.0, generated_tokens=90.0).activity is Activity.ACTIVE


def test_what_can_not_be_read_is_unknown_and_the_next_figures_cover_the_gap(story: Story) -> None:
    lost = story.then(error="refuses connections", requests=None, prompt_tokens=None, generated_tokens=None)
    assert (lost.activity, lost.reason) == (Activity.UNKNOWN, "vLLM on port 8000 refuses connections")
    found = story.then(error=None, requests=12.0, prompt_tokens=1200.0, generated_tokens=2300.0)
    assert found.reason == "vLLM on port 8000: 2 requests, 500 tokens in the last 1m"


def test_a_warm_server_that_can_not_be_read_still_bars(story: Story) -> None:
    story.more(1, 50, 50)
    lost = story.then(error="refuses connections")
    assert (lost.activity, lost.bars) == (Activity.UNKNOWN, True)


def test_a_mark_that_changes_is_a_request_and_one_that_goes_is_none() -> None:
    story = Story(facts=server(kind="ollama", name="Ollama on port 11434", requests=None, marks={}))
    story.facts |= {"prompt_tokens": None, "generated_tokens": None, "running": None}
    story.then()
    assert story.then(marks={"llama3": "12:00"}).reason == "Ollama on port 11434: a request in the last 30s"
    assert story.then(marks={"llama3": "12:00"}).activity is Activity.QUIET
    assert story.then(marks={"llama3": "12:05"}).activity is Activity.ACTIVE
    assert story.then(marks={}).activity is Activity.QUIET


def test_cpu_is_work_of_a_server_without_counters_while_somebody_is_connected() -> None:
    story = Story(facts=server(kind="gradio", requests=None, prompt_tokens=None, generated_tokens=None))
    story.then()
    assert story.then(cpu_cores=0.9).activity is Activity.QUIET
    assert story.then(cpu_cores=0.9, clients=1).activity is Activity.QUIET  # it always uses so much
    assert story.then(cpu_cores=1.9, clients=1).activity is Activity.ACTIVE


def test_a_queue_that_drains_over_night_leaves_no_warm_server() -> None:
    story = Story(facts=server(kind="comfyui", requests=None, prompt_tokens=None, generated_tokens=None, running=2.0))
    story.facts["marks"] = {"prompt": "a"}
    story.then()
    for hour, last in enumerate("bc"):
        assert story.then(2 * HOUR, marks={"prompt": last}, running=1.0 - hour).activity is Activity.ACTIVE
    drained = story.then()
    assert (drained.activity, drained.bars) == (Activity.QUIET, False)
    assert story.then(marks={"prompt": "d"}).activity is Activity.ACTIVE  # a new one, come and gone in between
    assert story.then().bars


def test_our_own_questions_are_no_requests_where_the_counter_does_not_tell_them_apart() -> None:
    story = Story(facts=server(kind=None, counts_ours=True, prompt_tokens=None, generated_tokens=None))
    story.then(asked=1)
    assert story.then(asked=2, requests=11.0).activity is Activity.QUIET
    assert story.then(asked=3, requests=13.0).activity is Activity.ACTIVE


def test_a_server_that_does_not_listen_yet_bars_while_it_may_be_starting() -> None:
    story = Story(facts=server(state="starting", name="vLLM (process 7)", started_s=NOW))
    found = story.then(60.0)
    assert (found.activity, found.bars, found.notice) == (Activity.QUIET, True, None)
    assert (
        found.reason == "vLLM (process 7) was started 1m ago and does not listen yet; bars the warning for 2h 59m more"
    )
    assert story.then(HOUR).notice == "vLLM (process 7) was started long ago and listens on no port"
    assert not story.then(2 * HOUR).bars


def test_several_servers_one_in_use_or_one_unread() -> None:
    story, other = Story(), server(id="b", name="TGI on port 80", kind="tgi")
    story.of([story.facts, other])
    lost = {**other, "error": "refuses connections"}
    story.now_s += TICK
    assert story.of([story.facts, lost]).reason == "TGI on port 80 refuses connections"
    story.now_s += TICK
    busy = {**story.facts, "requests": 11.0, "generated_tokens": 2100.0}
    found = story.of([busy, lost])
    assert (found.activity, found.reason) == (
        Activity.ACTIVE,
        "vLLM on port 8000: 1 request, 100 tokens in the last 30s",
    )
    story.now_s += TICK
    quiet = story.of([busy, other])
    assert (quiet.activity, quiet.bars) == (Activity.QUIET, True)


def idle_pids(story: Story) -> frozenset[int]:
    return story.signal._judge.idle_pids


def test_the_processes_of_servers_that_idle_are_told(story: Story) -> None:
    assert idle_pids(story) == frozenset()
    story.then(cpu_cores=2.0)
    assert idle_pids(story) == {7, 8}
    story.then(error="refuses connections")
    assert idle_pids(story) == frozenset()
    story.then(error=None)
    story.more(3, 300, 100)
    assert idle_pids(story) == frozenset()
    story.then()
    assert idle_pids(story) == {7, 8}
    story.signal.judge(Reading(signal="servers", at_s=NOW, absent="none"))
    assert idle_pids(story) == frozenset()


def test_the_same_reading_is_judged_once(story: Story) -> None:
    found = story.more(1, 50, 50)
    assert story.of([story.facts]) is found


@pytest.mark.parametrize("facts", [{}, {"servers": [{}]}, {"servers": 3}, {"servers": [{"id": "a", "state": "asked"}]}])
def test_facts_that_make_no_sense_are_unknown(facts: dict[str, Json]) -> None:
    signal = ServersSignal(Surroundings(), kernel=KernelTables())
    assert signal.judge(Reading(signal="servers", at_s=NOW, facts=facts)).activity is Activity.UNKNOWN


# ---------------------------------------------------------------- who is a server


@pytest.mark.parametrize(
    ("line", "directory", "key"),
    [
        ("/usr/bin/python3 /usr/local/bin/vllm serve meta-llama/Llama-3.1-8B --port 9000", "/", "vllm"),
        ("python3 -m vllm.entrypoints.openai.api_server --model m", "/", "vllm"),
        ("VLLM::APIServer_1", "/", "vllm"),
        ("VLLM::EngineCore", "/", None),
        ("vllm bench serve --model m", "/", None),
        ("vllm chat --url http://x", "/", None),
        ("python -u -X dev -W ignore -m sglang.launch_server --model-path m", "/", "sglang"),
        ("text-generation-launcher --model-id m", "/", "tgi"),
        ("text-generation-router serve --port 80", "/", "tgi"),
        ("/usr/local/bin/ollama serve", "/", "ollama"),
        ("ollama run llama3", "/", None),
        ("/usr/local/bin/ollama runner --model m --port 41234", "/", None),
        ("./llama-server -m a.gguf", "/", "llamacpp"),
        ("./server -m a.gguf", "/opt/llama.cpp", "llamacpp"),
        ("./server -m a.gguf", "/opt/game", None),
        ("python main.py --listen", "/workspace/ComfyUI", "comfyui"),
        ("/venv/bin/python3.11 /workspace/ComfyUI/main.py", "/", "comfyui"),
        ("python ./main.py", "/workspace/ComfyUI-0.3.40", "comfyui"),
        ("python my-comfyui_master/main.py", "/workspace", "comfyui"),
        ("python main.py", "/workspace/ComfyUI/custom_nodes/trainer", None),
        ("python main.py --epochs 3", "/workspace/comfyui-lora-train", None),
        ("python train.py", "/workspace/ComfyUI", None),
        ("python main.py --dist-url tcp://127.0.0.1:8188", "/workspace/imagenet", None),
        ("python -u launch.py -f --api", "/workspace/stable-diffusion-webui-forge", "webui"),
        ("python launch.py", "/workspace/train", None),
        ("python app.py", "/workspace/forge", None),
        ("/usr/bin/python3 /usr/local/bin/gradio app.py", "/", "gradio"),
        ("python server.py --listen", "/workspace/text-generation-webui", "gradio"),
        ("/opt/tritonserver/bin/tritonserver --model-repository=/m", "/", "triton"),
        ("bash -c vllm", "/", None),
        ("vim vllm serve", "/", None),
        ("python -c import/vllm serve", "/", None),
        ("torchrun --nproc-per-node 8 main.py", "/workspace/ComfyUI", None),
        ("", "/", None),
    ],
)
def test_who_is_recognised(line: str, directory: str, key: str | None) -> None:
    assert known_server(line.split(), lambda: directory) == key


@pytest.mark.parametrize(
    ("key", "line", "ports", "port"),
    [
        ("vllm", "vllm serve m", [8000, 41234], 8000),
        ("vllm", "vllm serve m --port 9000", [8000, 9000], 9000),
        ("vllm", "vllm serve m --port=9000", [9000], 9000),
        ("vllm", "vllm serve m --port 9000", [8000], None),
        ("vllm", "vllm serve m", [41234], None),
        ("triton", "tritonserver --http-port 9000", [8001, 8002, 9000], 8002),
        ("triton", "tritonserver --metrics-port=9002", [8000, 8001, 9002], 9002),
        ("ollama", "ollama serve", [41234], 41234),
        ("ollama", "ollama serve", [41234, 41235], None),
        ("webui", "python launch.py", [7861], 7861),
        ("webui", "python launch.py", [29500], None),
        ("vllm", "vllm serve m", [], None),
    ],
)
def test_only_the_port_that_is_its_own(key: str, line: str, ports: list[int], port: int | None) -> None:
    assert own_port(KNOWN[key], [line.split()], ports) == port


def test_a_certificate_means_tls() -> None:
    assert with_tls(["python", "main.py", "--tls-keyfile", "k", "--tls-certfile", "c"])
    assert not with_tls(["vllm", "serve", "m", "--port", "1"])


def test_servers_that_the_owner_names() -> None:
    written = [
        "9100",
        "8001/custom/metrics?x=1",
        "renderer=9101/m",
        "9102/metrics#jobs_total+frames:done",
        "gradio=7865",
    ]
    assert named_servers(written) == (
        NamedServer(port=9100),
        NamedServer(port=8001, path="/custom/metrics?x=1"),
        NamedServer(port=9101, name="renderer", path="/m"),
        NamedServer(port=9102, counters=("jobs_total", "frames:done")),
        NamedServer(port=7865, name="Gradio", kind="gradio"),
    )


@pytest.mark.parametrize("written", ["", "0", "65536", "http://x:1/metrics", "metrics", "gradio", "9100 /m", "a=b"])
def test_what_names_no_server_is_refused_with_the_remedy(written: str) -> None:
    with pytest.raises(ValueError, match="write 9100"):
        named_servers([written])


def test_a_port_is_named_once() -> None:
    with pytest.raises(ValueError, match="port 9100 is named twice"):
        named_servers(["9100", "a=9100/x"])
