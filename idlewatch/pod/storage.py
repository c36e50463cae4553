"""
What a stopped Pod goes on costing: its volume; its disk is wiped and costs nothing.

Source: RunPod's documentation, pages on Pod pricing and storage types, 2026-08: a volume disk is $0.10 per GB a month
while the Pod runs and $0.20 while it is stopped; a network volume is $0.07 per GB a month, $0.05 for what exceeds 1 TB,
running or not. How much a Pod has is not to be seen from inside: `df` of a network volume shows the whole cluster.
"""

from __future__ import annotations

from pathlib import Path

from idlewatch.pod.assembled import Assembly


def while_stopped(pod_id: str | None, volume: Path | None, *, network: bool) -> str | None:
    """
    Return it in words that follow *while stopped it costs*; None: this is no RunPod Pod.

    `network`: whether the volume is a network volume (RUNPOD_VOLUME_ID is set where one is attached).
    """
    if pod_id is None:
        return None
    if volume is None:
        return "nothing: it has no volume, and its disk is wiped"
    if network:
        return "its network volume's $0.07 per GB a month ($0.05 for what exceeds 1 TB), as while it runs"
    return "its volume disk's $0.20 per GB a month, twice as much as while it runs"


def storage_cost(here: Assembly) -> str | None:
    """What this Pod goes on costing while it is stopped, in words; None where that is not known."""
    network = here.loaded.pod_variable("RUNPOD_VOLUME_ID") is not None
    return while_stopped(here.pod.pod_id, here.volume, network=network)
