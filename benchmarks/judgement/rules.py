"""
The rules of the field, each re-stated from what its authors published: read it, don't run it.

What they do beside deciding (how they ask the driver, whether a stop works) is taken as flawless. Where an owner must
choose, the choice is ours: dstack's 10 % and windows, gpu-pruner's 150 W. A share of the CPU is taken as one of all
cores, a packet as 1,000 bytes, and what is sampled more often than a look is sampled once a look. A rule sees the
newest sample of a GPU where its tool asks for one reading now and then (`nvidia-smi`, RunPod's API, a scrape), never
the driver's highest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.judgement.observed import Seen

CORES = 16
"""Of the Pod: what a share of its CPU is a share of."""
PACKET_BYTES = 1000.0

Quiet = Callable[[Seen], Sequence[bool]]
"""Whether a look is idle to a rule; several where each GPU has a clock of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Stops once the same part was idle in every poll of `lasts_s`."""

    name: str
    source: str
    quiet: Quiet
    poll_s: float
    lasts_s: float
    uptime_s: float = 0.0
    """Not before it."""
    looks_s: float = 0.0
    """How often it is decided; 0: at every poll."""
    warns_s: float = 0.0
    """From the decision to the stop, without another look."""

    def stop(self, looks: Sequence[Seen], start: int, step_s: float) -> int | None:
        """The look at which it stops a Pod that was started before look `start`; None: never."""
        every, needs = max(1, round(self.poll_s / step_s)), round(self.lasts_s / max(self.poll_s, step_s))
        decides = max(every, round(self.looks_s / step_s))
        idle: list[int] = []
        for index in range(start + every - 1, len(looks), every):
            parts = self.quiet(looks[index])
            idle = [count + 1 if part else 0 for count, part in zip(idle or [0] * len(parts), parts, strict=True)]
            ran = index - start + 1
            if max(idle) >= needs and ran * step_s >= self.uptime_s and ran % decides == 0:
                at = index + round(self.warns_s / step_s)
                return at if at < len(looks) else None
        return None


def _mean_pct(seen: Seen) -> float:
    return sum(gpu.newest for gpu in seen.gpus) / len(seen.gpus)


def _max_pct(seen: Seen) -> float:
    return max(gpu.newest for gpu in seen.gpus)


def _cores(seen: Seen) -> float:
    return seen.cpu_cores + seen.hum_cores


def _answers(seen: Seen) -> bool:
    return seen.connected is not None and seen.at_s < seen.connected.answers_until_s


def _gpumon(seen: Seen) -> list[bool]:
    packets = seen.network * 10 / PACKET_BYTES
    return [_mean_pct(seen) <= 10 and min(1.0, _cores(seen)) <= 0.10 and packets <= 15_000]


def _workstation(seen: Seen) -> list[bool]:
    figures = (_cores(seen) / CORES < 0.10, seen.network < 50e3, seen.disk < 100e3, _max_pct(seen) < 5)
    return [all(figures)]


def _never(_: Seen) -> list[bool]:
    return [False]


RULES: Sequence[Rule] = (
    Rule(name="never", source="no rule at all", quiet=_never, poll_s=60, lasts_s=60),
    Rule(
        name="sleep 2h; stop",
        source="RunPod's documentation, stop a Pod after a period of time",
        quiet=lambda _: [True],
        poll_s=60,
        lasts_s=7200,
    ),
    Rule(
        name="mean GPU <= 5 % for 10 min",
        source="faezesarlakifar/trl, auto_shutdown.sh: mean over GPUs, each minute",
        quiet=lambda seen: [int(_mean_pct(seen)) <= 5],
        poll_s=60,
        lasts_s=600,
    ),
    Rule(
        name="max GPU <= 10 % for 30 min",
        source="mrpid12/runpod-ollama-stack: highest of all GPUs, each minute",
        quiet=lambda seen: [_max_pct(seen) <= 10],
        poll_s=60,
        lasts_s=1800,
    ),
    Rule(
        name="GPU < 5 % for 1 h",
        source="smeduru/initscripts, stop_if_idle.sh: each minute; with several GPUs its comparison fails",
        quiet=lambda seen: [len(seen.gpus) == 1 and _max_pct(seen) < 5],
        poll_s=60,
        lasts_s=3600,
    ),
    Rule(
        name="any GPU < 10 % for 30 min",
        source="dstack, utilization_policy: any one GPU below the minimum in all samples of the window, each 10 s",
        quiet=lambda seen: [gpu.newest < 10 for gpu in seen.gpus],
        poll_s=30,
        lasts_s=1800,
    ),
    Rule(
        name="GPU, core, net idle for 1 h",
        source="autobrains/gpumon: mean GPU and every core <= 10 %, <= 15,000 packets in 10 s, each line of 1 h, 70 % "
        "of the lines there, decided each 10 min after 2 h of uptime, 3 min of warning",
        quiet=_gpumon,
        poll_s=30,
        lasts_s=3600,
        uptime_s=7200,
        looks_s=600,
        warns_s=180,
    ),
    Rule(
        name="GPU max 0 for 30 min, no power",
        source="gpu-pruner: max over 30 min is 0 on any GPU, unless its power reached 150 W; older than 35 min",
        quiet=lambda seen: [gpu.newest == 0 and seen.watts < 150 for gpu in seen.gpus],
        poll_s=30,
        lasts_s=1800,
        uptime_s=2100,
    ),
    Rule(
        name="API: GPU 0 %, up for 2 h",
        source="gitlost-murali/runpod-budget: RunPod's API, each 10 min, one look, older than 120 min",
        quiet=lambda seen: [_max_pct(seen) == 0],
        poll_s=600,
        lasts_s=600,
        uptime_s=7200,
    ),
    Rule(
        name="nobody connected for 30 min",
        source="dstack, inactivity_duration: no established SSH connection; dead ones end by ClientAlive",
        quiet=lambda seen: [not _answers(seen)],
        poll_s=30,
        lasts_s=1800,
    ),
    Rule(
        name="CPU, GPU, net, disk for 30 min",
        source="CloudWorkstation: CPU < 10 %, GPU < 5 %, network < 50 KB/s, disk < 100 KB/s for 30 min",
        quiet=_workstation,
        poll_s=60,
        lasts_s=1800,
    ),
)
