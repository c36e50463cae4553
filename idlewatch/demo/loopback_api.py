"""
RunPod's API on loopback: REST v2 and GraphQL over one Pod or several, for tests and the demo.

It holds every request against RunPod's OpenAPI facts and writes down what breaks them; keeps the Pods' state; knows
what each key may do; and can be told to go wrong in each way that the real one was seen to. It listens on 127.0.0.1
only. Headers are logged without the key, and Pods' variables never are.

    python -m idlewatch.demo.loopback_api --port 0 --pod-id abc123 --key rpa_demo --print-json

prints its addresses as one line and serves until its standard input ends or SIGTERM. `/_control` then reads its
state and injects faults.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from idlewatch.demo.loopback_account import RIGHTS, Account
from idlewatch.demo.loopback_facts import GRAPHQL_PATH, REST_PREFIX, Problem, call_of, problems_of
from idlewatch.demo.loopback_pod import LoopbackPod, StopEffect
from idlewatch.demo.loopback_replies import Fault, Reply, edge_1010, ok, problem
from idlewatch.demo.loopback_server import CONTROL_PREFIX, conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import TracebackType

    from idlewatch.demo.loopback_facts import Sent
    from idlewatch.model import Json

__all__ = ["RIGHTS", "LoggedRequest", "LoopbackApi", "LoopbackPod", "StopEffect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One request as it is remembered."""

    call: str
    """One of RIGHTS, `terminate`, or `other`."""
    method: str
    path: str
    headers: dict[str, str]
    """Without the key."""
    body: Json
    key: int | None
    """Which key, counted from 0 in the order of `grant`; None: no key that is known."""
    status: int
    """What it was answered with."""


class LoopbackApi:
    """
    The API as a context manager; attributes may be read and `pods` changed while it runs.

    `keys` may do everything; `grant` gives others less. `on_stop` is called with the Pod's id, from a thread, when a
    Pod has really stopped. A terminate is always a problem, and carried out only with `allow_terminate`.
    """

    def __init__(
        self,
        *,
        pods: Sequence[LoopbackPod],
        keys: Sequence[str] = (),
        port: int = 0,
        on_stop: Callable[[str], None] | None = None,
        allow_terminate: bool = False,
    ) -> None:
        self.account = Account(pods, on_stop)
        self.pods = self.account.pods
        self.requests: list[LoggedRequest] = []
        self.problems: list[str] = []
        self.closing = threading.Event()
        self._allow_terminate = allow_terminate
        self._port = port
        self._faults: defaultdict[str, list[Fault]] = defaultdict(list)
        self._lock = threading.RLock()
        self._server: ThreadingHTTPServer | None = None
        for key in keys:
            self.grant(key)

    def grant(self, key: str, rights: Collection[str] = RIGHTS, *, pod_id: str | None = None) -> None:
        """Let a key do this with one Pod, or with all; a key without a right is known and refused."""
        self.account.grant(key, rights, pod_id)

    def fail(
        self,
        call: str,
        kind: str = "status",
        *,
        status: int | None = None,
        retry_after_s: int | None = None,
        text: str | None = None,
        applied: bool = False,
        times: int | None = 1,
    ) -> None:
        """
        Let the next `times` requests of a call go wrong (None: all of them); faults of one call queue up.

        `kind` is one of `loopback_replies.FAULTS`; `status` answers problem+json with that status, `text` as its
        detail. `body` sends `text`, one byte a character. With `applied` the call has its effect and only the answer
        goes wrong.
        """
        if call not in RIGHTS:
            raise ValueError(f"no call {call!r}; there are {', '.join(RIGHTS)}")
        fault = Fault(kind=kind, status=status, retry_after_s=retry_after_s, text=text, applied=applied, times=times)
        with self._lock:
            self._faults[call].append(fault)

    def recover(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    @property
    def address(self) -> str:
        """`http://127.0.0.1:PORT`."""
        if self._server is None:
            raise RuntimeError("the API on loopback is not running")
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def rest_url(self) -> str:
        """What IDLEWATCH_RUNPOD_API_URL takes."""
        return self.address + REST_PREFIX

    @property
    def graphql_url(self) -> str:
        """What IDLEWATCH_RUNPOD_GRAPHQL_URL takes."""
        return self.address + GRAPHQL_PATH

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), conversation(self))
        threading.Thread(target=self._server.serve_forever, args=(0.005,), name="loopback api", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.account.close()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def reply_to(self, sent: Sent) -> Reply:
        """Answer one request of either API, and remember it."""
        with self._lock:
            call = call_of(sent)
            found = problems_of(sent)
            reply = self._refused(call, found) or self._faulty(call, sent) or self.account.truth(call, sent)
            self.problems += [f"{sent.method} {sent.path}: {one.text}" for one in found]
            if call == "terminate":
                self.problems.append(f"{sent.method} {sent.path}: asks for the Pod's termination")
            self.requests.append(self._logged(call, sent, reply.status))
            return reply

    def control(self, sent: Sent) -> Reply:
        """Answer `/_control`: GET state, requests or problems; POST fail with the arguments of `fail`."""
        what = sent.path.removeprefix(CONTROL_PREFIX)
        with self._lock:
            views: dict[str, Any] = {
                "state": {pod_id: pod.as_rest() | {"env": {}} for pod_id, pod in self.pods.items()},
                "requests": [asdict(one) for one in self.requests],
                "problems": self.problems,
            }
        if sent.method == "GET" and what in views:
            return ok(views[what])
        if sent.method == "POST" and what == "fail":
            return self._told_to_fail(sent.json())
        return problem(404, f"nothing at {sent.method} {sent.path}")

    def _told_to_fail(self, arguments: Json) -> Reply:
        given: Any = arguments if isinstance(arguments, dict) else {}
        try:
            self.fail(**given)
        except (TypeError, ValueError) as error:
            return problem(422, str(error))
        return ok({})

    def _refused(self, call: str, found: Sequence[Problem]) -> Reply | None:
        """Return the answer to the first problem that does not let the request pass."""
        first = next((one for one in found if one.status), None)
        if first is None and call == "terminate" and not self._allow_terminate:
            first = Problem(403, "this API terminates nothing")
        if first is None:
            return None
        if first.status == 1010:
            return edge_1010()
        return problem(first.status, first.text, [first.text] if first.status == 422 else None)

    def _faulty(self, call: str, sent: Sent) -> Reply | None:
        waiting = self._faults[call]
        if not waiting:
            return None
        fault = waiting[0]
        if fault.times is not None:
            waiting[:1] = [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
        if fault.applied:
            return fault.reply(self.account.truth(call, sent))
        return fault.reply(self.account.without_effect(call, sent))

    def _logged(self, call: str, sent: Sent, status: int) -> LoggedRequest:
        known, key = list(self.account.rights), sent.key()
        shown = {name.lower(): "[hidden]" if name.lower() == "authorization" else value for name, value in sent.headers}
        return LoggedRequest(
            call=call,
            method=sent.method,
            path=sent.path,
            headers=shown,
            body=sent.json(),
            key=known.index(key) if key in known else None,
            status=status,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends or SIGTERM."""
    from idlewatch.demo.loopback_server import serve

    return serve(LoopbackApi, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
