"""Makes each signal, and loads all that they need: a task's child, which needs no signal, must not load this."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from idlewatch.gpu.reader import GpuReader
from idlewatch.kernel import KernelTables
from idlewatch.kernel.own import Key
from idlewatch.model import Signal, Surroundings
from idlewatch.servers.named import named_servers
from idlewatch.signals import gpu_count
from idlewatch.signals.asked import AskedSignal
from idlewatch.signals.gpu import GpuSignal
from idlewatch.signals.host import HostSignal
from idlewatch.signals.jobs import JobsSignal
from idlewatch.signals.jupyter import JupyterSignal
from idlewatch.signals.people import PeopleSignal
from idlewatch.signals.servers import ServersSignal
from idlewatch.signals.transfers import TransfersSignal

KERNEL = KernelTables()
"""One pass over /proc for all signals; making it does no I/O."""


def _asked(name: str, pod: Surroundings) -> Signal | None:
    question = pod.questions.get(name)
    return AskedSignal(name, question, start_task=pod.start_task) if question and pod.start_task else None


MAKERS: Mapping[str, Callable[[Surroundings], Signal | None]] = {
    "gpu": lambda pod: GpuSignal(
        reader=GpuReader(gpm=pod.gpu_gpm),
        gpu_count=gpu_count(pod.variables),
        gpus_before=pod.gpus_before,
        active_above_pct=pod.gpu_limit_pct,
    ),
    "host": lambda _: HostSignal(),
    "people": lambda pod: PeopleSignal(pod, kernel=KERNEL),
    "jupyter": lambda pod: JupyterSignal(pod, kernel=KERNEL),
    "jobs": lambda pod: JobsSignal(kernel=KERNEL, asked=pod.asked, connected_for_s=pod.connected_for_s),
    "transfers": lambda _: TransfersSignal(kernel=KERNEL),
    "servers": lambda pod: ServersSignal(pod, kernel=KERNEL, named=named_servers(pod.servers)),
    "command": lambda pod: _asked("command", pod),
    "promql": lambda pod: _asked("promql", pod),
}
"""Name to what makes it."""


def tie(made: Mapping[str, Signal | None], registered: Callable[[], Mapping[Key, int]]) -> None:
    """
    Tell all which processes are idlewatch's own, and the host which are servers.

    A server that spins without a request is no work. `registered` as `kernel.own.registrations` tells it.
    """
    host, servers = made.get("host"), made.get("servers")
    KERNEL.registered = registered
    if isinstance(host, HostSignal):
        host.registered = registered
    if isinstance(host, HostSignal) and isinstance(servers, ServersSignal):
        host.spinning = lambda: servers.known_server_pids
