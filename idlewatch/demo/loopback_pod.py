"""
The Pod that the API on loopback knows: its state, and how each of RunPod's two APIs words it.

Source of the shapes: the Pod schema of REST v2, and the fields in runpodctl's GraphQL queries. Its variables hold
values that look like secrets, so that a leak into a log or a page can be searched for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idlewatch.model import Json

LEGAL_ACTIONS: dict[str, tuple[str, ...]] = {
    "PROVISIONING": ("stop", "terminate"),
    "STARTING": ("stop", "terminate"),
    "RUNNING": ("stop", "restart", "terminate"),
    "EXITED": ("start", "terminate"),
    "ERROR": ("start", "terminate"),
    "TERMINATED": (),
}
"""What REST v2 lets be done in which status; all else is a 409."""


class StopEffect(StrEnum):
    """What an accepted stop does."""

    STOPS = "stops"
    ONLY_SAID = "only said"
    """The API says EXITED, the machine goes on."""
    NOTHING = "nothing"
    """The API says 200, and the Pod is RUNNING."""


def _secrets() -> dict[str, str]:
    return {"HF_TOKEN": "hf_loopbackSecretValue0001", "RUNPOD_API_KEY": "rpa_LOOPBACKSECRETVALUE0002"}


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True)
class LoopbackPod:
    """One Pod; all fields may be set while the API runs."""

    pod_id: str
    status: str = "RUNNING"
    usd_per_hour: float = 1.59
    locked: bool = False
    cluster: str | None = None
    """Id of the Instant Cluster that it belongs to."""
    volume_path: str | None = "/workspace"
    network_volume_id: str | None = None
    gpu_name: str = "NVIDIA A100-SXM4-80GB"
    gpu_count: int = 1
    stop_delay_s: float = 0.0
    """From an accepted stop to EXITED."""
    stop_effect: StopEffect = StopEffect.STOPS
    env: dict[str, str] = field(default_factory=_secrets)
    created_at: datetime = field(default_factory=_now)
    started_at: datetime = field(default_factory=_now)

    def actions(self) -> list[Json]:
        """Return what may be done now."""
        barred = {"stop", "restart"} if self.locked else set()
        return [action for action in LEGAL_ACTIONS[self.status] if action not in barred]

    def start(self) -> None:
        """Run again: another boot of the same Pod."""
        self.status, self.started_at = "RUNNING", _now()

    @property
    def cost(self) -> float:
        """Dollars an hour now: compute costs nothing once it is released."""
        return 0.0 if self.status in {"EXITED", "TERMINATED"} else self.usd_per_hour

    def as_rest(self) -> dict[str, Json]:
        """Return the Pod as REST v2 words it."""
        running = self.status == "RUNNING"
        pod: dict[str, Json] = {
            "id": self.pod_id,
            "name": "loopback",
            "status": self.status,
            "actions": self.actions(),
            "image": "runpod/pytorch:1.0.7-cu1281-torch280-ubuntu2404",
            "args": "",
            "disk": 50,
            "ports": ["8888/http", "22/tcp"],
            "env": dict(self.env),
            "registry": None,
            "mounts": self._mounts(),
            "gpu": {"id": self.gpu_name, "count": self.gpu_count},
            "cloud": "SECURE",
            "dataCenterId": "EU-RO-1",
            "cudaVersion": "12.8",
            "ssh": {"proxy": None, "direct": None},
            "template": None,
            "cost": self.cost,
            "locked": self.locked,
            "globalNetworking": {"enabled": False},
            "runtime": self._runtime() if running else None,
            "createdAt": self.created_at.isoformat(),
            "startedAt": self.started_at.isoformat(),
        }
        return pod | {"cluster": {"id": self.cluster, "rank": 0}} if self.cluster else pod

    def as_graphql(self) -> dict[str, Json]:
        """Return the fields of the Pod that GraphQL can be asked for here."""
        disk = self.volume_path is not None and self.network_volume_id is None
        return {
            "id": self.pod_id,
            "name": "loopback",
            "desiredStatus": self.status,
            "lastStatusChange": "",
            "costPerHr": self.cost,
            "podType": "RESERVED",
            "uptimeSeconds": self._uptime_s(),
            "gpuCount": self.gpu_count,
            "volumeInGb": 20 if disk else 0,
            "volumeMountPath": self.volume_path or "/workspace",
        }

    def _mounts(self) -> dict[str, Json]:
        if self.volume_path is None:
            return {}
        if self.network_volume_id is not None:
            return {"network": [{"volumeId": self.network_volume_id, "path": self.volume_path}]}
        return {"persistent": {"size": 20, "path": self.volume_path}}

    def _runtime(self) -> dict[str, Json]:
        gpus: list[Json] = [{"util": 0, "memoryUtil": 0} for _ in range(self.gpu_count)]
        return {"uptime": self._uptime_s(), "gpus": gpus, "cpu": {"util": 1}, "memory": {"util": 3}, "ports": []}

    def _uptime_s(self) -> int:
        return int((_now() - self.started_at).total_seconds())
