"""
AMD GPUs, where there is no NVIDIA driver: what the kernel's amdgpu driver says in /sys.

Runs in the child process only, because a read of a sick card can hang. `gpu_busy_percent` is the load at one instant
(kernel documentation, "amdgpu: GPU sysfs"), without a history: it is read every second between two polls, and each
look stands for a second at most. /sys shows every card of the machine, so only those whose render node this
container was given count.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from idlewatch.gpu import ENGINES, UTILIZATION
from idlewatch.gpu.said import COVERS_AT_MOST_S, TAP_S, Troubles, nothing_said
from idlewatch.gpu.samples import HIGHEST_PCT, two_highest
from idlewatch.gpu.words import MetricError

if TYPE_CHECKING:
    from pathlib import Path

VENDOR = "0x1002"
NOT_HERE = {errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL, errno.EACCES, errno.EPERM}


class FileError(MetricError):
    """A file of /sys could not be read; the words are the kernel's."""

    def __init__(self, words: str, *, unsupported: bool = False) -> None:
        super().__init__(0, words)
        self.unsupported = unsupported


def number(file: Path) -> int:
    """The number in a file of /sys; raises FileError, unsupported where there is no such file or no right to it."""
    try:
        return int(file.read_text())
    except OSError as error:
        raise FileError(f"{file.name}: {error.strerror}", unsupported=error.errno in NOT_HERE) from error
    except ValueError as error:
        raise FileError(f"{file.name} holds no number") from error


class AmdCard:
    """One card, by its folder in /sys."""

    ring_span_s = None
    ringless = True

    def __init__(self, index: int, device: Path) -> None:
        self._index, self._device = index, device
        self._uuid = _text(device / "unique_id") or device.resolve().name
        self._name = _text(device / "product_name") or "AMD GPU"
        self._tapped: list[int] = []
        self._engine: list[int] = []
        self._good_s: float | None = None

    def tap(self, now_s: float) -> None:  # noqa: ARG002  (tapped like any other)
        """Look once. A failure shows at the poll."""
        for file, values in (("gpu_busy_percent", self._tapped), ("vcn_busy_percent", self._engine)):
            try:
                values.append(_percent(self._device / file))
            except FileError:
                continue

    def poll(self, now_s: float) -> dict[str, Any]:
        """Every look since the last poll, as it stands in the line."""
        said, troubles = nothing_said(self._index, self._uuid, self._name, "amd"), Troubles()
        said["instant"] = True
        self._read_utilization(said, troubles)
        self._read_state(said, troubles)
        self._tapped, self._engine = [], []
        for metric in ("energy", "processes", *ENGINES):
            troubles.lacks(metric, "the kernel does not tell it of AMD cards", for_good=True)
        troubles.into(said)
        if said["util_max_pct"] is not None and not said["error"]:
            seen_s = min(said["samples"] * TAP_S, COVERS_AT_MOST_S)
            said["covered_s"] = 0.0 if self._good_s is None else round(min(now_s - self._good_s, seen_s), 3)
            self._good_s = now_s
        return said

    def _read_utilization(self, said: dict[str, Any], troubles: Troubles) -> None:
        try:
            self._tapped.append(_percent(self._device / "gpu_busy_percent"))
        except FileError as error:
            if error.unsupported:
                troubles.lacks(UTILIZATION, str(error), for_good=True)
            else:
                troubles.failed(UTILIZATION, error)
        if self._tapped:
            highest, second = two_highest(self._tapped)
            said.update(util_max_pct=highest, util_second_pct=second, samples=len(self._tapped))
            said["util_mean_pct"] = round(sum(self._tapped) / len(self._tapped), 2)
        if self._engine:
            said["engines_max_pct"] = {"video": max(self._engine)}

    def _read_state(self, said: dict[str, Any], troubles: Troubles) -> None:
        try:
            said["mem_used_mib"] = number(self._device / "mem_info_vram_used") >> 20
            said["mem_total_mib"] = number(self._device / "mem_info_vram_total") >> 20
        except FileError as error:
            troubles.lacks("memory", str(error), for_good=error.unsupported)
        files = [*self._device.glob("hwmon/hwmon*/power1_average"), *self._device.glob("hwmon/hwmon*/power1_input")]
        try:
            said["power_w"] = number(files[0]) / 1e6 if files else None
        except FileError as error:
            troubles.lacks("power", str(error), for_good=error.unsupported)
        if not files:
            troubles.lacks("power", "the card has no power sensor in /sys", for_good=True)


def cards(drm: Path, dev: Path) -> list[AmdCard]:
    """The AMD cards under `drm` (/sys/class/drm) of which `dev` (/dev) has the render node."""
    devices = [card / "device" for card in sorted(drm.glob("card[0-9]*")) if "-" not in card.name]
    amd = [device for device in devices if _text(device / "vendor") == VENDOR and _given(device, dev)]
    return [AmdCard(index, device) for index, device in enumerate(amd)]


def _given(device: Path, dev: Path) -> bool:
    return any((dev / "dri" / node.name).exists() for node in device.glob("drm/renderD*"))


def _percent(file: Path) -> int:
    value = number(file)
    if not 0 <= value <= HIGHEST_PCT:
        raise FileError(f"{file.name} reads {value} %")
    return value


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
