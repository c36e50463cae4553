"""
The note of a stop as a page for people, who find it on the volume while the Pod is stopped, or at the next start.

Pure. It says: why, on what evidence, what was saved, how to start and restore, that a start may get no GPU, dollars.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping

from idlewatch.durations import format_duration
from idlewatch.model import Json
from idlewatch.notify import COLUMNS
from idlewatch.printable import printable
from idlewatch.stopping.notes import Answer, answer_in, at_words


def page(note: Mapping[str, Json]) -> str:
    """Return the page; `note` is what `last-stop.json` holds. Lines are printable, of 76 columns where words allow."""
    blocks = [_head(note), _why(note), _saved(note), _again(note), _money(note)]
    texts = ["\n".join(_wrapped(line) for line in block) for block in blocks]
    return "\n\n".join(text for text in texts if text) + "\n"


def _head(note: Mapping[str, Json]) -> Iterator[str]:
    pod, at = note.get("pod_id") or "this machine", at_words(note)
    if note.get("from_outside"):
        yield f"Pod {pod} was ended from outside, not by idlewatch, at {at}."
        return
    yield f"idlewatch asked for the stop of Pod {pod} at {at}."
    yield from _answer(note)


def _answer(note: Mapping[str, Json]) -> Iterator[str]:
    match answer_in(note):
        case Answer.ACCEPTED:
            yield "RunPod accepted it. That you read it in a newer start proves that it stopped."
        case Answer.UNKNOWN:
            yield "This was written just before; RunPod's answer is not known."
        case Answer.REFUSED:
            yield f"That stop was refused: {note.get('answer_text')}"
            yield "So where this Pod has ended since, it ended in some other way."
        case Answer.FAILED:
            yield f"That stop failed: {note.get('answer_text')}"
            yield "So where this Pod has ended since, it most likely ended in some other way."


def _why(note: Mapping[str, Json]) -> Iterator[str]:
    yield f"Why: {note.get('reason')}"
    idle_s = note.get("idle_for_s")
    if isinstance(idle_s, int | float) and math.isfinite(idle_s):
        yield f"Nothing was seen to use it for {format_duration(float(idle_s))}. What each signal saw last:"
    evidence = note.get("evidence")
    for name, said in (evidence if isinstance(evidence, dict) else {}).items():
        yield f"  {name}: {said}"


def _saved(note: Mapping[str, Json]) -> Iterator[str]:
    snapshot = note.get("snapshot")
    if note.get("from_outside"):
        yield "Saved: nothing for this end; `idlewatch snapshots` lists what there is."
    else:
        yield f"Saved: {snapshot or 'nothing; ' + str(note.get('unsaved') or 'there was nothing that a stop wipes')}"
    yield from _listed("Done before it", note.get("done"))
    yield from _listed(
        "Notebooks that were open, whose unsaved edits may still be in your browser", note.get("notebooks")
    )


def _again(note: Mapping[str, Json]) -> Iterator[str]:
    yield "To go on: start the Pod in RunPod's console."
    if note.get("gpus"):
        yield "It may come back without a GPU where its machine has none free; its files are there all the same."
    snapshot = note.get("snapshot")
    if snapshot:
        yield f"Then: idlewatch restore {snapshot}"
        yield f"What that holds, and how to unpack it without idlewatch: {note.get('folder')}/snapshots/{snapshot}.txt"


def _money(note: Mapping[str, Json]) -> Iterator[str]:
    spent, price = note.get("spent_usd"), note.get("usd_per_hour")
    if isinstance(spent, int | float):
        hourly = f", at ${price:.2f} an hour" if isinstance(price, int | float) else ""
        yield f"That start has cost ${spent:.2f}{hourly}."
    if note.get("storage"):
        yield f"While stopped it costs {note['storage']}."


def _listed(what: str, things: Json) -> Iterator[str]:
    if isinstance(things, list) and things:
        yield f"{what}:"
        yield from (f"  {thing}" for thing in things)


def _wrapped(line: str) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    text = " ".join(printable(line.replace("\n", " ")).split())
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
