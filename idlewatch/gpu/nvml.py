"""
NVML's calls through the real binding, with one error for all that can go wrong.

Runs in the child process only. A metric that is NOT_SUPPORTED, not permitted or missing in the library is
unsupported and asked for again after an hour; every other failure is an error of this poll. Nothing here turns a
failed call into a number.
"""

from __future__ import annotations

import time
from ctypes import byref, c_int, c_uint, c_ulonglong
from typing import TYPE_CHECKING, Any, TypeVar

import pynvml

from idlewatch.gpu.words import FUNCTION_NOT_FOUND, TIMEOUT, MetricError, explained

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ASK_AGAIN_S = 3600.0
SLOW_S = 10.0
"""A GPU whose firmware is dead takes 45 s for every call (NVIDIA/open-gpu-kernel-modules#446)."""


def ask(name: str, *args: object) -> Any:
    """
    What the binding's function `name` returns; raises MetricError, also where the binding lacks it.

    A driver that took SLOW_S has no answer: the next call would take as long, and no call may be cut short.
    """
    call = getattr(pynvml, name, None)
    if call is None:
        raise MetricError(FUNCTION_NOT_FOUND, f"this pynvml has no {name}")
    return _timed(call, args, patient=name == "nvmlInit")  # which wakes every GPU


def _timed(call: Callable[..., Any], args: tuple[object, ...], *, patient: bool = False) -> Any:
    began_s = time.monotonic()
    answer, failed = _answered(call, args)
    took_s = time.monotonic() - began_s
    if took_s > SLOW_S and not patient:
        raise MetricError(TIMEOUT, f"the driver took {took_s:.0f} s to answer{f': {failed}' if failed else ''}")
    if failed:
        raise failed
    return answer


def _answered(call: Callable[..., Any], args: tuple[object, ...]) -> tuple[Any, MetricError | None]:
    """What a call returned, or why it failed."""
    try:
        return call(*args), None
    except pynvml.NVMLError as error:
        return None, MetricError(error.value, explained(error.value, str(error)))
    except pynvml.NVMLLibraryMismatchError:  # not an NVMLError: an old library without the function
        return None, MetricError(FUNCTION_NOT_FOUND, explained(FUNCTION_NOT_FOUND, "Function Not Found"))


_ROWS = 128
"""More than a ring holds (about 100)."""
_words = (c_ulonglong * (2 * _ROWS))()


def sample_rows(handle: object, kind: int, since_us: int) -> list[tuple[int, int]]:
    """
    Rows (time stamp in µs, value) of one sample ring in one call of the driver; raises MetricError.

    The binding's own function calls the driver twice, first for the size; it is used where the ring is larger.
    """
    try:
        rows: list[tuple[int, int]] = _timed(_rows_at_once, (handle, kind, since_us))
    except (MetricError, AttributeError) as error:  # AttributeError: a binding that names these functions otherwise
        if isinstance(error, MetricError) and not error.grew:
            raise
        _, found = ask("nvmlDeviceGetSamples", handle, kind, since_us)
        return [(row.timeStamp, row.sampleValue.uiVal) for row in found]
    return rows


def _rows_at_once(handle: object, kind: int, since_us: int) -> list[tuple[int, int]]:
    call, count = pynvml._nvmlGetFunctionPointer("nvmlDeviceGetSamples"), c_uint(_ROWS)  # noqa: SLF001  (has no other name)
    code = call(handle, kind, c_ulonglong(since_us), byref(c_int()), byref(count), _words)
    pynvml._nvmlCheckReturn(code)  # noqa: SLF001  (likewise)
    words = _words[: 2 * count.value]
    return [(at_us, value & 0xFFFFFFFF) for at_us, value in zip(words[::2], words[1::2], strict=True)]


class Supports:
    """Which metrics this GPU lacks, and why; each is asked for again after an hour."""

    def __init__(self) -> None:
        self._again_s: dict[str, float] = {}
        self._why: dict[str, str] = {}

    def ask(self, metric: str, now_s: float, call: Callable[[], T]) -> T | None:
        """The metric's value, None where the GPU has no such metric; any other MetricError goes through."""
        if now_s < self._again_s.get(metric, 0.0):
            return None
        try:
            value = call()
        except MetricError as error:
            if not error.unsupported:
                raise
            self._again_s[metric] = now_s + ASK_AGAIN_S
            self._why[metric] = str(error)
            return None
        self._again_s.pop(metric, None)
        return value

    def lacks(self, metric: str) -> bool:
        """Whether the metric was refused for good within the hour."""
        return metric in self._again_s

    def why(self, metric: str) -> str:
        """The words of its refusal."""
        return self._why.get(metric, "gave nothing")


def memory_bytes(handle: object) -> tuple[int, int]:
    """
    Memory used and in all: used without what the driver reserves where the library can tell (v2), else with it (v1).

    Source: nvmlDeviceGetMemoryInfo_v2; the driver's reserve is 410 to 614 MiB on cards seen.
    """
    try:
        said = ask("nvmlDeviceGetMemoryInfo", handle, getattr(pynvml, "nvmlMemory_v2", None))
    except MetricError as error:
        if not error.other_version:  # one poll with the reserve and one without would look like growth
            raise
        said = ask("nvmlDeviceGetMemoryInfo", handle)
    return int(said.used), int(said.total)


def process_count(handle: object) -> int:
    """Processes with a context. Only counted: the ids are the host's and mean nothing in a container."""
    return _listed("Compute", handle) + _listed("Graphics", handle)


def _listed(kind: str, handle: object) -> int:
    """Older drivers (before 510) know only the second version of this call."""
    name = f"nvmlDeviceGet{kind}RunningProcesses"
    try:
        return len(ask(name, handle))
    except MetricError as error:
        if not error.other_version:
            raise
        return len(ask(f"{name}_v2", handle))


def opened() -> None:
    """Open NVML; raises MetricError where it can't be."""
    ask("nvmlInit")


def count() -> int:
    """How many GPUs NVML lists now; raises MetricError."""
    return int(ask("nvmlDeviceGetCount"))


def driver_version() -> str | None:
    """The driver's version; None where it does not say."""
    try:
        return str(ask("nvmlSystemGetDriverVersion"))
    except MetricError:
        return None
