"""A real daemon in a process of its own, on a host that is quiet by decree: what it may be ended in the middle of."""

from __future__ import annotations

from idlewatch import assembly, logs
from idlewatch.daemon import Daemon
from idlewatch.history import History
from idlewatch.model import Finding, Reading
from idlewatch.notify import Delivery
from idlewatch.record import DaemonRecord
from idlewatch.settings import load, pod_sources
from idlewatch.watch import MachineClock, Moments, only_daemon
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


def main() -> None:
    logs.set_up()
    here = assembly.assembled(load(pod_sources()))
    settings, clock = here.loaded.settings, MachineClock()
    clock.end_on_shutdown_request()
    with only_daemon(settings.state_dir):
        history = History(settings.state_dir)
        record = DaemonRecord(history, clock, here.loaded, here.pod)
        daemon = Daemon(
            clock=clock,
            signals=[Quiet()],
            actions=assembly.pod_actions(here, Nobody(), None),
            record=record,
            moment=Moments(
                state_dir=settings.state_dir,
                pod=here.pod,
                hold_max_s=settings.hold_max.total_seconds(),
                usd_per_hour=settings.usd_per_hour,
                refusal=assembly.provider(here).refusal(),
            ),
            limits=settings.limits(),
            state=history.remembered(here.pod.boot_key, record.settings_key),
        )
        daemon.run(until=clock.ended)
        daemon.close()
        history.close()


if __name__ == "__main__":
    main()
