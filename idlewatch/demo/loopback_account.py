"""
Whose Pods the API on loopback knows, what each key may do with them, and what a call does to them.

Rights are kept for each call by itself, because RunPod's keys were seen to read without stopping, to stop without
reading, and to be accepted by GraphQL and refused by REST.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from idlewatch.demo.loopback_facts import GRAPHQL_PATH, operation_in
from idlewatch.demo.loopback_pod import LoopbackPod, StopEffect
from idlewatch.demo.loopback_replies import Reply, graphql_errors, ok, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from idlewatch.demo.loopback_facts import Operation, Sent

RIGHTS = ("rest_read", "rest_stop", "graphql_read", "graphql_stop")
"""What a key may do, and the names of the calls for `LoopbackApi.fail`."""


class Account:
    """Pods, keys, and the good answer to each call."""

    def __init__(self, pods: Sequence[LoopbackPod], on_stop: Callable[[str], None] | None) -> None:
        self.pods = {pod.pod_id: pod for pod in pods}
        self.rights: dict[str, dict[str | None, frozenset[str]]] = {}
        """Key, and then Pod (None: all of them), to what may be done."""
        self._on_stop = on_stop
        self._timers: list[threading.Timer] = []
        self._stopping: set[str] = set()

    def grant(self, key: str, rights: Collection[str], pod_id: str | None) -> None:
        """Let a key do this. Raises ValueError for a right that does not exist."""
        unknown = set(rights) - set(RIGHTS)
        if unknown:
            raise ValueError(f"no such rights: {sorted(unknown)}")
        self.rights.setdefault(key, {})[pod_id] = frozenset(rights)

    def settle(self) -> None:
        """Wait for the stops that are under way."""
        for timer in self._timers:
            timer.join()

    def close(self) -> None:
        """Call off the stops that are under way."""
        for timer in self._timers:
            timer.cancel()

    def without_effect(self, call: str, sent: Sent) -> Reply:
        """Return the good answer to a stop that does not happen, for a fault to spoil."""
        pod = self.pods.get(sent.pod_id())
        if pod is None or not call.endswith("_stop"):
            return self.truth(call, sent)
        if call == "rest_stop":
            return ok(replace(pod, status="EXITED").as_rest())
        return ok({"data": {"podStop": {"id": pod.pod_id, "desiredStatus": "EXITED"}}})

    def truth(self, call: str, sent: Sent) -> Reply:
        """Carry out a request without a problem, as far as its key may, and return the good answer."""
        return self._graphql(call, sent) if sent.path == GRAPHQL_PATH else self._rest(call, sent)

    def _rest(self, call: str, sent: Sent) -> Reply:
        key, pod = sent.key(), self.pods.get(sent.pod_id())
        if key not in self.rights:
            return problem(401, "invalid bearer token")
        rights = self._rights_of(key, pod)
        if pod is None or rights is None:
            return problem(404, "resource not found")
        if call in RIGHTS and call not in rights:
            return problem(403, "access denied")
        body = sent.json()
        return self._act(pod, str(body["action"])) if isinstance(body, dict) else ok(pod.as_rest())

    def _act(self, pod: LoopbackPod, action: str) -> Reply:
        if pod.cluster is not None:
            return problem(409, "pod is managed by its cluster")
        if action not in pod.actions():
            locked = pod.locked and action in {"stop", "restart"}
            return problem(409, "pod is locked" if locked else f"cannot {action} a pod in status {pod.status}")
        if action == "terminate":
            pod.status = "TERMINATED"
            return Reply(status=204)
        if action == "stop":
            self._stop(pod)
        else:
            pod.start()
        return ok(pod.as_rest())

    def _graphql(self, call: str, sent: Sent) -> Reply:
        operation, key = operation_in(sent), sent.key()
        if key not in self.rights:
            return replace(graphql_errors("Unauthorized"), status=401)
        if operation is None:
            return graphql_errors("GRAPHQL_VALIDATION_FAILED: not an operation that is known here")
        pod = self.pods.get(sent.pod_id())
        rights = self._rights_of(key, pod)
        if pod is None or rights is None:
            is_read = operation.call == "graphql_read"
            return ok({"data": {"pod": None}}) if is_read else graphql_errors("pod not found", operation.name)
        if call in RIGHTS and call not in rights:
            return graphql_errors("Unauthorized", operation.name)
        return self._operate(operation, pod)

    def _operate(self, operation: Operation, pod: LoopbackPod) -> Reply:
        if operation.call == "terminate":
            pod.status = "TERMINATED"
            return ok({"data": {operation.name: None}})
        is_stop = operation.call == "graphql_stop"
        if is_stop and (pod.locked or pod.cluster is not None):
            return graphql_errors("This pod cannot be stopped", operation.name)
        if is_stop:
            self._stop(pod)
        return _selected(operation, pod, stopping=is_stop)

    def _stop(self, pod: LoopbackPod) -> None:
        if pod.status == "EXITED" or pod.stop_effect is StopEffect.NOTHING:
            return
        if pod.pod_id in self._stopping:
            return
        if pod.stop_delay_s == 0:
            pod.status = "EXITED"
        else:
            self._stopping.add(pod.pod_id)
        timer = threading.Timer(pod.stop_delay_s, self._end, args=(pod,))
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _end(self, pod: LoopbackPod) -> None:
        pod.status = "EXITED"
        self._stopping.discard(pod.pod_id)
        if self._on_stop is not None and pod.stop_effect is StopEffect.STOPS:
            self._on_stop(pod.pod_id)

    def _rights_of(self, key: str, pod: LoopbackPod | None) -> frozenset[str] | None:
        """Return what the key may do with the Pod; None where it may not know of it."""
        granted = self.rights[key]
        return granted.get(pod.pod_id if pod else None, granted.get(None))


def _selected(operation: Operation, pod: LoopbackPod, *, stopping: bool) -> Reply:
    """Return the fields that were asked for, as GraphQL does; a stop tells the desired status, at once."""
    known = pod.as_graphql()
    if stopping and pod.stop_effect is not StopEffect.NOTHING:
        known["desiredStatus"] = "EXITED"
    unknown = [one for one in operation.fields if one not in known]
    if unknown:
        return graphql_errors(f'Cannot query field "{unknown[0]}" on type "Pod".')
    return ok({"data": {operation.name: {one: known[one] for one in operation.fields}}})
