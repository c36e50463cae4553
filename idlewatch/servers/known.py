"""
The servers that are known: one literal entry each.

Names were read in the products' own code, in the versions that each entry tells. Where a version shows no counter at
all, that is UNKNOWN with what to do about it; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from idlewatch.servers import counts
from idlewatch.servers.counts import Counts, Metrics

if TYPE_CHECKING:
    from idlewatch.servers.asking import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command line that starts a server."""

    run: tuple[str, ...]
    """The program, or the script that Python runs, without its folder; `-m NAME` for a module."""
    word: tuple[str, ...] = ()
    """Its first word must be one of these; empty: any."""
    folder: re.Pattern[str] | None = None
    """What the script's folder must look like, for names that many programs have."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing to ask."""

    path: str
    takes: Callable[[Answer], Counts]
    """Raises SignalError where the answer is not what was asked for."""
    limit_bytes: int = 4 << 20


Way: TypeAlias = tuple[Ask, ...]
"""What has to be asked, all of it, to know what a server did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownServer:
    """One product."""

    name: str
    programs: tuple[Program, ...]
    ports: range | tuple[int, ...]
    """Where it listens unless it was told otherwise."""
    port_options: tuple[str, ...] = ("--port",)
    any_port: bool = False
    """It opens no port but its own, so whichever it listens on is the one."""
    ways: tuple[Way, ...]
    """Tried in this order until one gives figures; that one is asked first from then on."""
    ways_with: Mapping[str, tuple[Way, ...]] = field(default_factory=dict)
    """Option of the command line -> the ways to ask a server that was started with it."""
    metrics: Metrics | None = None
    hint: str = ""
    """What the owner can do where it shows no counter."""
    serves_nothing: bytes = b""
    """Words of the answer of one that only hands requests on to servers of the same kind."""
    spins: bool = False
    """Its processes use CPU while nothing is asked of them."""
    cpu_is_work: bool = False
    """Its counters leave work out; CPU of its processes while somebody is connected is work."""
    queues: bool = False
    """A request may be worked on for hours after it came, so progress is no new request."""


VLLM_METRICS = Metrics(
    prefix="vllm:",
    requests=("vllm:request_success_total",),
    prompt_tokens=("vllm:prompt_tokens_total",),
    generated_tokens=("vllm:generation_tokens_total",),
    running=("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:num_requests_swapped"),
)
"""
Sources: vllm/engine/metrics.py (0.3 to 0.9, V0), vllm/v1/metrics/loggers.py (V1; names without `_total`, which the
Prometheus client adds; `num_requests_swapped` is gone), vllm/v1/metrics/ray_wrappers.py (`_` for `:`), and
huggingface/physics-intern#7 (builds with `vllm_request_success_total`). Tokens move while an answer is streamed, the
count of requests when it ends, for whatever reason.
"""

SGLANG_METRICS = Metrics(
    prefix="sglang:",
    requests=("sglang:num_requests_total",),
    prompt_tokens=("sglang:prompt_tokens_total",),
    generated_tokens=("sglang:generation_tokens_total",),
    steps=("sglang:realtime_tokens_total",),
    running=("sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:num_grammar_queue_reqs"),
    unused_without="sglang:",
)
"""
Source: python/sglang/srt/metrics/collector.py and docs/references/production_metrics: only with `--enable-metrics`.
Several processes write it, so a family without a sample is not shown at all. `num_requests_total` came with
sgl-project/sglang#2859; `/health` generates one token (sgl-project/sglang#29799).
"""

TGI_METRICS = Metrics(
    prefix="tgi_",
    requests=("tgi_request_count",),
    prompt_tokens=("tgi_request_input_length_sum",),
    generated_tokens=("tgi_request_generated_tokens_sum",),
    steps=("tgi_batch_inference_count",),
    running=("tgi_batch_current_size", "tgi_queue_size"),
    unused_without="tgi_request",
)
"""
Source: huggingface/text-generation-inference, router/src/server.rs, router/src/validation.rs and
backends/v3/src/backend.rs in 1.0 to 3.3 (db931fc). A metric is shown from its first use on. The liveness request of
`/health` goes past the router's counters and moves only `tgi_batch_inference_count`.
"""

LLAMA_METRICS = Metrics(
    prefix="llamacpp:",
    requests=(),
    prompt_tokens=("llamacpp:prompt_tokens_total",),
    generated_tokens=("llamacpp:tokens_predicted_total",),
    steps=("llamacpp:n_decode_total",),
    running=("llamacpp:requests_processing", "llamacpp:requests_deferred"),
)
"""Source: ggml-org/llama.cpp, tools/server/README.md: only with `--metrics`; tokens are added when a request ends."""

TRITON_METRICS = Metrics(
    prefix="nv_",
    requests=("nv_inference_request_success",),
    steps=("nv_inference_exec_count", "nv_inference_count"),
    running=("nv_inference_pending_request_count",),
    unused_without="nv_inference_",
)
"""
Source: triton-inference-server/core, src/metrics.cc (73aad7c). Each loaded model has its own sample, so a server
without a model shows none. Health polls and scrapes are not inferences.
"""


def _page(metrics: Metrics) -> tuple[Way, ...]:
    return ((Ask("/metrics", metrics.of_answer),),)


_COMFY_UI = re.compile(r"comfyui([-_.]?(v?\d[\w.-]*|master|main|dev|git))?/*(/\./*)*$", re.IGNORECASE)
"""The folder itself: one below it (`custom_nodes/x`), or one that is called after it (`comfyui-lora-train`), is not."""
_WEB_UI = re.compile(r"stable-diffusion-webui|automatic1111|forge|sd\.?next|fooocus", re.IGNORECASE)
_GRADIO_WAYS: tuple[Way, ...] = (
    (Ask("/monitoring/summary", counts.gradio_summary), Ask("/gradio_api/queue/status", counts.gradio_queue)),
    (Ask("/gradio_api/queue/status", counts.gradio_queue),),
    (Ask("/queue/status", counts.gradio_queue),),
)
"""
Source: gradio-app/gradio, gradio/routes.py and queueing.py: `/monitoring/summary` since 5.49 (off with
`enable_monitoring=False`), the prefix since 5.0, the mean time of an event up to 4.8; in between the length of the
queue is all that it shows, so CPU while somebody is connected counts too.
"""

KNOWN: Mapping[str, KnownServer] = {
    "vllm": KnownServer(
        name="vLLM",
        programs=(
            Program(run=("vllm", "-m vllm", "-m vllm.entrypoints.cli.main"), word=("serve",)),
            Program(run=("-m vllm.entrypoints.openai.api_server", "VLLM::APIServer")),
        ),
        ports=(8000,),
        ways=_page(VLLM_METRICS),
        metrics=VLLM_METRICS,
        hint="start it without --disable-log-stats",
        spins=True,  # vllm-project/vllm#19036
    ),
    "sglang": KnownServer(
        name="SGLang",
        programs=(Program(run=("-m sglang.launch_server",)), Program(run=("sglang", "-m sglang"), word=("serve",))),
        ports=(30000,),
        ways=_page(SGLANG_METRICS),
        metrics=SGLANG_METRICS,
        hint="start it with --enable-metrics",
        spins=True,  # sgl-project/sglang#1730
    ),
    "tgi": KnownServer(
        name="TGI",
        programs=(
            Program(
                run=("text-generation-launcher", "text-generation-router", "text-generation-router-v2"),
            ),
        ),
        ports=(3000, 80),
        port_options=("--port", "-p"),
        any_port=True,
        ways=_page(TGI_METRICS),
        metrics=TGI_METRICS,
        spins=True,
    ),
    "ollama": KnownServer(
        name="Ollama",
        programs=(Program(run=("ollama",), word=("serve", "start")),),
        ports=(11434,),
        port_options=(),
        any_port=True,
        # ollama/ollama server/sched.go (fb30760): the end of a request puts expires_at off; /api/ps is no request.
        ways=((Ask("/api/ps", counts.ollama_models),),),
        hint="Ollama shows its models from 0.1.33 on",
        cpu_is_work=True,
    ),
    "llamacpp": KnownServer(
        name="llama.cpp",
        programs=(Program(run=("llama-server",)), Program(run=("server",), folder=re.compile("llama", re.IGNORECASE))),
        ports=(8080,),
        any_port=True,
        ways=((Ask("/metrics", LLAMA_METRICS.of_answer),), (Ask("/slots", counts.llama_slots),)),
        # /metrics and /slots wake a sleeping server and keep it awake (ggml-org/llama.cpp#20227); /props does not.
        ways_with={"--sleep-idle-seconds": ((Ask("/props", counts.llama_sleep),),)},
        metrics=LLAMA_METRICS,
        hint="start it with --metrics",
        # A router: its models are servers of their own, each on its own port (tools/server/README.md).
        serves_nothing=b"model name is missing",
        cpu_is_work=True,
    ),
    "comfyui": KnownServer(
        name="ComfyUI",
        programs=(Program(run=("main.py",), folder=_COMFY_UI),),
        ports=(8188,),
        # ComfyUI server.py: GET /prompt is the short form of /queue; /history?max_items=1 is the newest entry.
        ways=(
            (
                Ask("/prompt", counts.comfy_queue),
                Ask("/history?max_items=1", counts.comfy_history, limit_bytes=16 << 20),
            ),
        ),
        queues=True,
    ),
    "webui": KnownServer(
        name="Stable Diffusion WebUI",
        programs=(Program(run=("launch.py", "webui.py", "entry_with_update.py"), folder=_WEB_UI),),
        ports=range(7860, 7960),
        # AUTOMATIC1111/stable-diffusion-webui, modules/shared_state.py; the API is there with --api only.
        ways=((Ask("/sdapi/v1/progress?skip_current_image=true", counts.webui_progress),), *_GRADIO_WAYS),
        hint="start it with --api",
        cpu_is_work=True,
        queues=True,
    ),
    "gradio": KnownServer(
        name="Gradio",
        programs=(
            Program(run=("gradio",)),
            Program(run=("server.py",), folder=re.compile("text-generation-webui", re.IGNORECASE)),
            Program(run=("kohya_gui.py",)),
        ),
        ports=range(7860, 7960),
        port_options=("--port", "--listen-port", "--server_port"),
        ways=_GRADIO_WAYS,
        cpu_is_work=True,
        queues=True,
    ),
    "triton": KnownServer(
        name="Triton",
        programs=(Program(run=("tritonserver",)),),
        ports=(8002,),
        port_options=("--metrics-port",),
        ways=_page(TRITON_METRICS),
        metrics=TRITON_METRICS,
        hint="start it without --allow-metrics=false",
    ),
}
"""Key, as in IDLEWATCH_SERVERS, to what is known of it."""

PRODUCTS: tuple[Metrics, ...] = tuple(each.metrics for each in KNOWN.values() if each.metrics is not None)
