"""
Lets the real signals read, twice at least: which of them see something here, and which are blind, and why.

For a Pod in which no daemon watches; where one does, its own readings are better. In a child process: a signal starts
processes of its own, and the driver can hang.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from idlewatch import assembly
from idlewatch.gpu.reader import GpuReader
from idlewatch.history.status import mapping
from idlewatch.machine_clock import MachineClock
from idlewatch.model import Activity, Json, Reading, Signal
from idlewatch.pod import identity as pod
from idlewatch.pod.assembled import Assembly
from idlewatch.settings import load, pod_sources
from idlewatch.signals import gpu_count
from idlewatch.signals.gpu import GpuSignal
from idlewatch.watching import daemon

ROUNDS = 2
EVERY_S = 1.0
PATIENCE_S = 36.0
"""How long a signal may say that it can't see yet: opening NVML is granted 30 s before it counts as hung, a server is
asked twice 30 s apart, the kernel's tables are passed over each 15 s."""
GPU_FACTS = ("expected", "found", "found_error", "gone", "driver", "lost")
CARD_FACTS = ("name", "kind", "mig", "virtual", "error")


def signals(_request: Json, progress: Callable[[Json], None]) -> Json:
    """Return `signals`: name -> `activity`, `reason`, `refines`, and of the GPUs also `gpu`, see `gpu_facts`."""
    clock, loaded = MachineClock(), load(pod_sources())
    here = Assembly(loaded=loaded, pod=pod.identity(loaded.sources), volume=None, save_root=None)
    watched = [_quick(signal, here) for signal in assembly.signals(here)]
    found: dict[str, Json] = {}
    try:
        _rounds(watched, clock, found, lambda at: progress({"signals": {**found}, "at": at}))
    finally:
        for signal in watched:
            signal.close()
    return {"signals": found}


def _rounds(watched: Sequence[Signal], clock: MachineClock, found: dict[str, Json], at: Callable[[str], None]) -> None:
    """Read and judge all of them again and again, into `found`, until each knows or has had its time."""
    began_s, rounds = time.monotonic(), 0
    while True:
        for signal in watched:
            at(f"reading {signal.name}")
            reading = daemon.read(signal, clock.now_s())
            finding = daemon.judge(signal, reading)
            found[signal.name] = {
                "activity": finding.activity.value,
                "reason": finding.reason,
                "refines": signal.refines,
                "gpu": gpu_facts(reading) if signal.name == GpuSignal.name else None,
            }
        rounds += 1
        if rounds >= ROUNDS and not _waits(found, time.monotonic() - began_s):
            return
        clock.rest(EVERY_S)


def _waits(found: Mapping[str, Json], waited_s: float) -> bool:
    """Whether one that can't see may still come to see."""
    unknown = any(mapping(said).get("activity") == Activity.UNKNOWN for said in found.values())
    return unknown and waited_s < PATIENCE_S


def _quick(signal: Signal, here: Assembly) -> Signal:
    """The GPU signal with a reader that polls each second, so that the driver settles within seconds."""
    if not isinstance(signal, GpuSignal):
        return signal
    reader = GpuReader(poll_s=1.0, gpm=here.loaded.settings.gpu_gpm)
    return GpuSignal(reader=reader, gpu_count=gpu_count(here.loaded.pod_variables()))


def gpu_facts(reading: Reading) -> Json:
    """Of a reading of the GPUs what tells how well they can be read; None where it could not be had."""
    if reading.error is not None or reading.absent is not None:
        return None
    gpus = reading.facts.get("gpus")
    cards = [card for card in gpus if isinstance(card, dict)] if isinstance(gpus, list) else []
    return {name: reading.facts.get(name) for name in GPU_FACTS} | {"gpus": [_card(card) for card in cards]}


def _card(card: Mapping[str, Json]) -> Json:
    unread, parts = card.get("not_readable"), card.get("instances")
    return {name: card.get(name) for name in CARD_FACTS} | {
        "not_readable": [*unread] if isinstance(unread, dict) else [],
        "instances": len(parts) if isinstance(parts, list) else 0,
    }
