"""A real daemon in a process of its own, on a host that is quiet by decree: what it may be ended in the middle of."""

from __future__ import annotations

import logging
from collections.abc import Callable

from idlewatch import assembly, logs
from idlewatch.model import Finding, Reading, Signal
from idlewatch.notify import Delivery
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.settings import load, pod_sources
from idlewatch.state_folder import only_daemon
from idlewatch.watching import run
from tests.fakes import quiet


class Quiet:
    """The machine is shared: what others do on it must not decide a test."""

    name = "host"
    refines = False

    def __init__(self) -> None:
        self._read_s: float | None = None

    def read(self, now_s: float) -> Reading:
        covers_s = now_s - (self._read_s or now_s)
        self._read_s = now_s
        return Reading(signal=self.name, at_s=now_s, covers_s=covers_s)

    def judge(self, reading: Reading) -> Finding:
        return quiet(reading)

    def close(self) -> None: ...


class Nobody:
    """Nobody on this machine wants to hear of a test."""

    def tell(self, text: str) -> Delivery:
        return Delivery(told=(), failed=())


def main(signals: Callable[[Assembly], list[Signal]]) -> None:
    """Watch with these signals until told to end."""
    logs.set_up(least=logging.INFO)
    here = assembled(load(pod_sources()))
    with only_daemon(here.loaded.settings.state_dir):
        run.watch(here, signals=signals(here), actions=assembly.pod_actions(here, Nobody(), None))


if __name__ == "__main__":
    main(lambda _: [Quiet()])
