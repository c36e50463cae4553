"""
A small model server with the metrics of vLLM, for tests: run as a program, driven over real HTTP.

    model_server.py [serve MODEL] --port N [--names colon|underscore] [--spin]

POST /v1/completions {"prompt": words, "max_tokens": N}; with "until_released" it ends at POST /release only
GET  /health  GET /metrics  POST /hang (a request that runs for ever)  POST /reset (counters from 0)
POST /lose (no counters any more)
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PAGE = """\
# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{{generation="0"}} 11302.0
# HELP {vllm}num_requests_running Number of requests in model execution batches.
# TYPE {vllm}num_requests_running gauge
{vllm}num_requests_running{{engine="0",model_name="m\\"1"}} {running}
# HELP {vllm}num_requests_waiting Number of requests waiting to be processed.
# TYPE {vllm}num_requests_waiting gauge
{vllm}num_requests_waiting{{engine="0",model_name="m\\"1"}} 0.0
# HELP {vllm}kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE {vllm}kv_cache_usage_perc gauge
{vllm}kv_cache_usage_perc{{engine="0",model_name="m\\"1"}} 0.0
"""
_COUNTERS = """\
# HELP {vllm}prompt_tokens_total Number of prefill tokens processed.
# TYPE {vllm}prompt_tokens_total counter
{vllm}prompt_tokens_total{{engine="0",model_name="m\\"1"}} {prompt}
# HELP {vllm}generation_tokens_total Number of generation tokens processed.
# TYPE {vllm}generation_tokens_total counter
{vllm}generation_tokens_total{{engine="0",model_name="m\\"1"}} {generated}
# HELP {vllm}request_success_total Count of successfully processed requests.
# TYPE {vllm}request_success_total counter
{vllm}request_success_total{{engine="0",finished_reason="stop",model_name="m\\"1"}} {stopped}
{vllm}request_success_total{{engine="0",finished_reason="length",model_name="m\\"1"}} {done}
{vllm}request_success_total{{engine="0",finished_reason="abort",model_name="m\\"1"}} 0.0
"""


class Model:
    """What it has counted."""

    def __init__(self, names: str) -> None:
        self.prefix = {"colon": "vllm:", "underscore": "vllm_"}[names]
        self.lock = threading.Lock()
        self.counts = {"running": 0, "prompt": 0, "generated": 0, "stopped": 1, "done": 0}
        self.shows_counters = True
        self.released = threading.Event()

    def add(self, name: str, number: int) -> None:
        with self.lock:
            self.counts[name] += number

    @property
    def drills(self) -> dict[str, Callable[[], None]]:
        """What a test can do to it, by path."""
        return {
            "/hang": lambda: self.add("running", 1),
            "/reset": lambda: self.counts.update(prompt=0, generated=0, stopped=0, done=0),
            "/lose": lambda: setattr(self, "shows_counters", False),
            "/release": self.released.set,
        }

    def complete(self, prompt: str, tokens: int, *, wait: bool) -> None:
        self.add("running", 1)
        self.add("prompt", len(prompt.split()))
        self.add("generated", tokens)
        if wait:
            self.released.wait(60)
        self.add("running", -1)
        self.add("done", 1)

    def page(self) -> str:
        with self.lock:
            text = _PAGE + (_COUNTERS if self.shows_counters else "")
            return text.format(vllm=self.prefix, **{name: float(value) for name, value in self.counts.items()})


def handler_of(model: Model) -> type[BaseHTTPRequestHandler]:
    """Return the answers of that model."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the parent's name
            """Say nothing."""

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self.say(200, model.page(), "text/plain; version=0.0.4; charset=utf-8")
            else:
                self.say(200 if self.path == "/health" else 404, "")

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            if self.path == "/v1/completions":
                model.complete(str(asked["prompt"]), int(asked["max_tokens"]), wait="until_released" in asked)
            else:
                model.drills[self.path]()
            self.say(200, "")

        def say(self, status: int, text: str, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    return Handler


def main() -> None:
    """Serve until ended; `ready` on the first line once it listens."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--names", default="colon")
    parser.add_argument("--spin", action="store_true")
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), handler_of(Model(options.names)))
    if options.spin:
        threading.Thread(target=_spin, daemon=True).start()
    print("ready", flush=True)  # noqa: T201 -- whoever started it waits for this
    server.serve_forever()


def _spin() -> None:
    """Use CPU as an idle vLLM does."""
    while True:
        sum(range(1000))


if __name__ == "__main__":
    main()
