"""Polls of GPUs made by hand, and a GPU signal that is fed with them."""

from __future__ import annotations

from typing import Any

from idlewatch.gpu.line import GpuPoll, Poll
from idlewatch.gpu.reader import Taken
from idlewatch.model import Activity, Finding, Reading
from idlewatch.signals.gpu import GpuSignal

IDLE_W = 120.0


class FakeReader:
    """Hands over what a test put in; as it stands it is healthy and has nothing new."""

    def __init__(self) -> None:
        self.next = Taken()
        self.closed = False

    def take(self, now_s: float) -> Taken:
        taken, self.next = self.next, Taken(error=self.next.error)
        return taken

    def close(self) -> None:
        self.closed = True


def gpu(uuid: str = "GPU-0", **changes: Any) -> GpuPoll:
    """One GPU with a model loaded and at rest, 5 s covered."""
    number = uuid.removeprefix("GPU-")
    facts: dict[str, Any] = {
        "index": int(number) if number.isdecimal() else 0,
        "uuid": uuid,
        "name": "H100",
        "kind": "nvidia",
        "mig": False,
        "virtual": None,
        "instant": False,
        "instances": (),
        "ring_span_s": 16.5,
        "ring_period_s": 0.1667,
        "power_w": None,
        "power_limit_w": 700.0,
        "mem_total_mib": 81920,
        "not_readable": {},
        "util_max_pct": 0,
        "util_second_pct": 0,
        "util_mean_pct": 0.0,
        "samples": 30,
        "covered_s": 5.0,
        "engines_max_pct": {"encoder": 0, "decoder": 0},
        "energy_total_mj": None,
        "mem_used_mib": 16000,
        "processes": 1,
        "unsupported": (),
        "error": None,
    }
    return GpuPoll(**{**facts, **changes})


def failed(uuid: str = "GPU-0", error: str = "utilization: GPU is lost") -> GpuPoll:
    return gpu(uuid, util_max_pct=None, util_second_pct=None, util_mean_pct=None, samples=0, covered_s=0.0, error=error)


def poll(at_s: float, *gpus: GpuPoll, **changes: Any) -> Poll:
    facts: dict[str, Any] = {"seq": 1, "at_s": at_s, "expected": len(gpus), "found": len(gpus), "gpus": gpus}
    return Poll(**{**facts, **changes})


class Pod:
    """A signal over a fake reader, fed poll by poll."""

    def __init__(self, **settings: Any) -> None:
        self.reader = FakeReader()
        settings.setdefault("gpu_count", 1)
        self.signal = GpuSignal(reader=self.reader, **settings)
        self.joules = 0.0

    def see(self, *polls: Poll, error: str | None = None, now_s: float | None = None) -> Finding:
        return self.signal.judge(self.read(*polls, error=error, now_s=now_s))

    def read(self, *polls: Poll, error: str | None = None, now_s: float | None = None) -> Reading:
        self.reader.next = Taken(polls=polls, error=error)
        return self.signal.read(now_s if now_s is not None else polls[-1].at_s + 0.1 if polls else 0.0)

    def draws(self, at_s: float, watts: float, span_s: float = 5.0, **changes: Any) -> Finding:
        """A poll of one GPU that drew `watts` over the last `span_s` seconds."""
        self.joules += watts * span_s
        return self.see(poll(at_s, gpu(energy_total_mj=int(self.joules * 1000), **changes)))

    def settle(self, until_s: float = 100.0, watts: float = IDLE_W, **changes: Any) -> None:
        """Ten seconds short of two minutes at rest: the floor is known."""
        for at_s in range(int(until_s) - 110, int(until_s) + 1, 5):
            assert self.draws(at_s, watts, **changes).activity in {Activity.QUIET, Activity.ACTIVE}
