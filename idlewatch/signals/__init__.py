"""Where evidence comes from: one file a source, and the literal mapping that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from idlewatch.gpu.reader import GpuReader
from idlewatch.kernel import KernelTables
from idlewatch.model import Signal, Surroundings
from idlewatch.servers.named import named_servers
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


def gpu_count(pod_variables: Mapping[str, str]) -> int | None:
    """What RunPod says of the GPUs of this Pod; None where it says nothing that is a number."""
    told = pod_variables.get("RUNPOD_GPU_COUNT", "")
    return int(told) if told.isdecimal() else None


SIGNALS: Mapping[str, Callable[[Surroundings], Signal | None]] = {
    "gpu": lambda pod: GpuSignal(
        reader=GpuReader(gpm=pod.gpu_gpm), gpu_count=gpu_count(pod.variables), gpus_before=pod.gpus_before
    ),
    "host": lambda _: HostSignal(),
    "people": lambda pod: PeopleSignal(pod, kernel=KERNEL),
    "jupyter": lambda pod: JupyterSignal(pod, kernel=KERNEL),
    "jobs": lambda pod: JobsSignal(kernel=KERNEL, asked=pod.asked),
    "transfers": lambda _: TransfersSignal(kernel=KERNEL),
    "servers": lambda pod: ServersSignal(pod, kernel=KERNEL, named=named_servers(pod.servers)),
    "command": lambda pod: _asked("command", pod),
    "promql": lambda pod: _asked("promql", pod),
}
"""Name, as in IDLEWATCH_SIGNALS and IDLEWATCH_IGNORE, to what makes one for this Pod; in report order.

None: its owner has not asked for it.
"""
