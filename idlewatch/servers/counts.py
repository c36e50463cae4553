"""
What a server's answer counts: from the text or the JSON of one product's version to the same few figures.

A figure that the server does not show is None, never 0; an answer without any counter of requests or tokens is a
SignalError that names what was looked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from idlewatch.errors import SignalError
from idlewatch.model import Json
from idlewatch.servers import page as text
from idlewatch.servers.page import Page, Sample, summed

if TYPE_CHECKING:
    from idlewatch.servers.asking import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one server has counted since it started, and what it says of now."""

    requests: float | None = None
    prompt_tokens: float | None = None
    generated_tokens: float | None = None
    steps: float | None = None
    """Moves while work is done; alone it proves no request."""
    running: float | None = None
    """Requests that run or wait now."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """What changes with every request where nothing is counted: a new value is a request, one that goes is none."""
    counts_ours: bool = False
    """Our own questions are among the requests."""

    def merged(self, other: Counts) -> Counts:
        """Return both together; a figure that both have is the other's."""
        mine, theirs = self.facts(), other.facts()
        figures: dict[str, Any] = {name: mine[name] if value is None else value for name, value in theirs.items()}
        return Counts(**figures | {"marks": {**self.marks, **other.marks}})

    def facts(self) -> dict[str, Json]:
        """Return the figures for a reading."""
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "generated_tokens": self.generated_tokens,
            "steps": self.steps,
            "running": self.running,
            "marks": dict(self.marks),
            "counts_ours": self.counts_ours,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The names of one product's metrics; of several that mean the same, the newest first."""

    prefix: str
    """What all of its names begin with."""
    requests: tuple[str, ...]
    prompt_tokens: tuple[str, ...] = ()
    generated_tokens: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    """Each that is there is added."""
    unused_without: str = ""
    """It shows a counter only once it has counted: without a name that begins so its page has counted nothing."""

    def of_answer(self, answer: Answer) -> Counts:
        """Return what the page counts. Raises SignalError."""
        return self.of_page(text.parse(answer.body))

    def of_page(self, page: Page) -> Counts:
        """Return what the page counts. Raises SignalError where it has no counter of requests or tokens."""
        requests, generated = _first(page, self.requests), _first(page, self.generated_tokens)
        if requests is None and generated is None:
            if not self._is_unused(page):
                wanted = ", ".join(self.requests + self.generated_tokens)
                raise SignalError(f"shows no counter of requests or tokens (looked for {wanted})")
            requests = 0.0
        waiting = [value for name in self.running if (value := page.total(name)) is not None]
        return Counts(
            requests=requests,
            prompt_tokens=_first(page, self.prompt_tokens),
            generated_tokens=generated,
            steps=_first(page, self.steps),
            running=sum(waiting) if waiting else None,
        )

    def _is_unused(self, page: Page) -> bool:
        own = bool(self.unused_without) and page.has_only_prefix(self.prefix)
        return own and not page.has_prefix(self.unused_without)


def _first(page: Page, names: Iterable[str]) -> float | None:
    return next((value for name in names if (value := page.total(name)) is not None), None)


# ---------------------------------------------------------------- pages of servers that only the owner knows

_ROUTES = frozenset(
    {
        "handler",
        "path",
        "route",
        "endpoint",
        "url",
        "uri",
        "http_route",
        "http_target",
        "target",
        "path_template",
        "view",
    }
)
_NO_REQUEST = re.compile(r".*/(metrics|health\w*|livez?|readyz?|ping|version|favicon\.ico)/?(\?.*)?", re.IGNORECASE)


def of_any_page(page: Page, wanted: tuple[str, ...], known: Iterable[Metrics]) -> Counts:
    """
    Return the requests that a page of unknown make counts: `wanted`, a known product's, or what is named a request.

    Samples whose route is that of a scrape or a health poll are left out. Raises SignalError where none is found.
    """
    for product in () if wanted else known:
        if page.has_prefix(product.prefix):
            return product.of_page(page)
    names = wanted or _request_counter(page)
    samples = {name: page.samples.get(name.replace(":", "_")) for name in names}
    missing = [name for name, found in samples.items() if found is None]
    if missing:
        raise SignalError(f"shows no {', '.join(missing)}")
    if not samples:
        raise SignalError("shows no counter of requests; name one: IDLEWATCH_SERVERS=PORT/metrics#NAME")
    found = [sample for each in samples.values() for sample in each or ()]
    routed = any(_ROUTES & sample.labels().keys() for sample in found)
    total = summed(names[0], (sample.value for sample in found if not _is_poll(sample)))
    return Counts(requests=total, counts_ours=not routed)


def _request_counter(page: Page) -> tuple[str, ...]:
    """The shortest name that is a counter of requests."""
    counters = [name for name in page.samples if "request" in name and _is_counter(name, page)]
    return (min(counters, key=lambda name: (len(name), name)),) if counters else ()


def _is_counter(name: str, page: Page) -> bool:
    base = name.removesuffix("_count")
    if base != name and page.types.get(base) in {"histogram", "summary"}:
        return True
    return "counter" in {page.types.get(name), page.types.get(name.removesuffix("_total"))}


def _is_poll(sample: Sample) -> bool:
    routes = (value for key, value in sample.labels().items() if key in _ROUTES)
    return any(_NO_REQUEST.fullmatch(route) for route in routes)


# ---------------------------------------------------------------- JSON


def llama_slots(answer: Answer) -> Counts:
    """Return the newest task of each slot of llama.cpp, and how many tokens they have decoded."""
    slots = [_object(slot) for slot in _array(answer.json())]
    if not slots:
        raise SignalError("shows no slot")
    marks = {f"slot {slot.get('id')}": str(slot["id_task"]) for slot in slots if "id_task" in slot}
    busy = [slot.get("is_processing", slot.get("state")) for slot in slots]
    if not marks or None in busy:
        raise SignalError("shows slots without their tasks")
    return Counts(marks=marks, running=sum(bool(each) for each in busy), steps=sum(map(_decoded, slots)))


def _decoded(slot: Mapping[str, Any]) -> float:
    """Source: llama.cpp, tools/server/README.md: `next_token` is an object, in newer builds an array of them."""
    following = slot.get("next_token")
    following = following if isinstance(following, list) else [following]
    return sum(number(each.get("n_decoded")) or 0.0 for each in following if isinstance(each, dict))


def llama_sleep(answer: Answer) -> Counts:
    """Return whether llama.cpp is awake: somebody asked it something within its own limit."""
    sleeping = _object(answer.json()).get("is_sleeping")
    if not isinstance(sleeping, bool):
        raise SignalError("does not tell whether it sleeps")
    return Counts(marks={} if sleeping else {"awake": "yes"})


def ollama_models(answer: Answer) -> Counts:
    """Return when Ollama would unload each model: it is put off at the end of every request."""
    models = [_object(each) for each in _array(_object(answer.json()).get("models"))]
    try:
        return Counts(marks={str(each["name"]): str(each["expires_at"]) for each in models})
    except KeyError as missing:
        raise SignalError(f"shows models without {missing}") from None


def comfy_queue(answer: Answer) -> Counts:
    """Return how many prompts run or wait in ComfyUI."""
    left = number(_object(_object(answer.json()).get("exec_info")).get("queue_remaining"))
    if left is None:
        raise SignalError("shows no queue_remaining")
    return Counts(running=left)


_FIRST_KEY = re.compile(rb'\s*\{\s*(?:\}\s*|"([^"\\]{1,200})"\s*:)')


def comfy_history(answer: Answer) -> Counts:
    """Return which prompt ComfyUI finished last; the rest of the answer may be megabytes and is not read."""
    found = _FIRST_KEY.match(answer.body)
    if found is None:
        raise SignalError("shows no history")
    return Counts(marks={"prompt": found[1].decode(errors="replace")} if found[1] else {})


def webui_progress(answer: Answer) -> Counts:
    """Return Automatic1111's newest job, how many there are now and how far it is."""
    state = _object(_object(answer.json()).get("state"))
    started, jobs = state.get("job_timestamp"), number(state.get("job_count"))
    if started is None or jobs is None:
        raise SignalError("shows no job_timestamp")
    steps = 1000 * (number(state.get("job_no")) or 0.0) + (number(state.get("sampling_step")) or 0.0)
    running = abs(jobs) if state.get("job") or jobs > 0 else 0.0  # -1: it has begun, and nobody knows yet how many
    return Counts(marks={"job": str(started)}, running=running, steps=steps)


def gradio_summary(answer: Answer) -> Counts:
    """Return the requests of all functions of a Gradio application."""
    functions = _object(_object(answer.json()).get("functions"))
    counted = [number(_object(each).get("total_requests")) for each in functions.values()]
    if None in counted:
        raise SignalError("shows functions without total_requests")
    return Counts(requests=sum(each for each in counted if each is not None))


def gradio_queue(answer: Answer) -> Counts:
    """Return how many events wait; up to Gradio 4.8 also the mean time of an event, which every event changes."""
    status = _object(answer.json())
    waiting, mean_s = number(status.get("queue_size")), number(status.get("avg_event_process_time"))
    if waiting is None:
        raise SignalError("shows no queue_size")
    return Counts(running=waiting, marks={"mean time of an event": str(mean_s)} if mean_s else {})


def number(value: object) -> float | None:
    """Return a JSON number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SignalError("answers JSON of another form than is known")
    return value


def _array(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise SignalError("answers JSON of another form than is known")
    return value
