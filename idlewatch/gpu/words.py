"""
Errors of NVML, and what they mean to somebody who is woken by one, beside NVML's own words.

Runs in the child process and imports next to nothing. The numbers are nvmlReturn_t (nvml.h); where they come from
was seen in the wild: 18 after the host's driver was updated, 999 in containers that lost their devices to a systemd
or cgroup reload (NVIDIA/nvidia-container-toolkit#48), 15 after the GPU fell off the bus (Xid 79).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION = 1, 2, 3, 4
NOT_FOUND, INSUFFICIENT_SIZE, DRIVER_NOT_LOADED, TIMEOUT = 6, 7, 9, 10
LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND, GPU_IS_LOST, RESET_REQUIRED = 12, 13, 15, 16
OPERATING_SYSTEM, LIB_RM_VERSION_MISMATCH, ARGUMENT_VERSION_MISMATCH = 17, 18, 25
GPU_NOT_FOUND, UNKNOWN = 28, 999

MEANINGS = {
    NO_PERMISSION: "this container may not ask for it",
    DRIVER_NOT_LOADED: "no NVIDIA driver is loaded on this machine",
    TIMEOUT: "the driver gave up waiting for the GPU",
    LIBRARY_NOT_FOUND: "this container has no libnvidia-ml.so.1 that can be loaded",
    FUNCTION_NOT_FOUND: "the driver's library is too old for it",
    GPU_IS_LOST: "it has fallen off the bus; only the machine's owner can bring it back",
    RESET_REQUIRED: "nothing runs on it until the machine's owner resets it",
    OPERATING_SYSTEM: "this container may have lost its access to the GPU's device files",
    LIB_RM_VERSION_MISMATCH: "the machine's driver was changed under this Pod; a new start of the Pod mends that",
    GPU_NOT_FOUND: "the GPU is no longer there",
}


LOST_AT_THE_OPENING = (
    "often a container that lost its GPU when the machine reloaded its services; a new start mends that"
)
"""What UNKNOWN means where NVML can't even be opened; elsewhere it may mean anything."""
SEVERAL = 4


def explained(code: int, words: str) -> str:
    """NVML's own words, with what they mean where that is known."""
    meaning = MEANINGS.get(code)
    said = words.rstrip(".")
    return f"{said} ({meaning})" if meaning else said


def listed(errors: Mapping[str, Sequence[str]]) -> str | None:
    """Each error once, after the metrics that met it; None where there is none."""
    told = [f"{_together(metrics)}: {words}" for words, metrics in errors.items()]
    return "; ".join(told) or None


def _together(metrics: Sequence[str]) -> str:
    if len(metrics) <= SEVERAL:
        return ", ".join(metrics)
    return f"{metrics[0]} and {len(metrics) - 1} other readings"


class MetricError(Exception):
    """One call failed; `code` is its nvmlReturn_t (0: none), the text NVML's own words and what they mean."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.unsupported = code in {NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND}
        self.other_version = self.unsupported or code in {INVALID_ARGUMENT, ARGUMENT_VERSION_MISMATCH}
        self.none_there = code in {NOT_FOUND, INVALID_ARGUMENT}
        """No such sample or instance; the second where the binding asked for 0 rows."""
        self.grew = code == INSUFFICIENT_SIZE
        self.no_driver = code in {LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED}
        self.lost = code in {
            UNINITIALIZED,
            DRIVER_NOT_LOADED,
            TIMEOUT,
            GPU_IS_LOST,
            RESET_REQUIRED,
            LIB_RM_VERSION_MISMATCH,
            GPU_NOT_FOUND,
        }
        """Said of the whole GPU: further calls would say the same, after up to 45 s each."""


def at_the_opening(error: MetricError) -> str:
    """What an error means that kept NVML from being opened."""
    return f"{error} ({LOST_AT_THE_OPENING})" if error.code == UNKNOWN else str(error)
