"""
The four calls of RunPod's API that idlewatch makes; there is no fifth.

REST v2 reads and stops; GraphQL does the same where a key is accepted only there. Nothing here can terminate a Pod:
the one action ever sent is the constant below, and no DELETE exists.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from idlewatch import __version__
from idlewatch.errors import ProviderRefused
from idlewatch.providers.transport import NoAnswer, Request, ask
from idlewatch.providers.verdicts import OVER, PodRead, Said, Verdict, graphql_pod, rest_pod

if TYPE_CHECKING:
    from idlewatch.model import Json
    from idlewatch.providers.transport import Answer

STOP_BODY: dict[str, Json] = {"action": "stop"}
STOP_MUTATION = (
    "mutation stopPod($podId: String!) { podStop(input: {podId: $podId}) { id desiredStatus lastStatusChange } }"
)
READ_QUERY = (
    "query pod($podId: String!) { pod(input: {podId: $podId}) "
    "{ id desiredStatus costPerHr volumeInGb volumeMountPath } }"
)
"""One Pod, by its id: a key of the Pod may not ask `myself`, and `env` would bring its secrets along."""


@dataclass(frozen=True)
class ApiKey:
    """A key and the variable that it came from."""

    name: str
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RunpodApi:
    """The API as one run of calls sees it: about one Pod, and over at one instant."""

    pod_id: str
    rest_url: str
    graphql_url: str
    call_timeout_s: float
    ends_s: float
    """`time.monotonic()` at which no call is begun and none waited for."""
    secrets: tuple[str, ...] = field(repr=False)
    """What must not come out in any text, even if the server says it."""

    def ending_in(self, seconds: float) -> RunpodApi:
        """Return the same for a shorter run."""
        return replace(self, ends_s=min(self.ends_s, time.monotonic() + seconds))

    def rest_read(self, key: ApiKey) -> PodRead | Verdict:
        """GET the Pod. Raises ProviderRefused where another Pod comes back."""
        return self._rest(key, "GET", self._pod_url(), None)

    def rest_stop(self, key: ApiKey) -> Verdict:
        """POST the stop; a yes is this Pod in the answer, whatever its status, which is observed and lags."""
        said = self._rest(key, "POST", f"{self._pod_url()}/action", STOP_BODY)
        return said if isinstance(said, Verdict) else Verdict(said=Said.YES, text=f"200, {said.facts.status}")

    def graphql_read(self, key: ApiKey) -> PodRead | Verdict:
        """Query the Pod. Raises ProviderRefused where another Pod comes back."""
        return self._graphql(key, "pod", READ_QUERY)

    def graphql_stop(self, key: ApiKey) -> Verdict:
        """Mutate; a yes is this Pod with a desired status of EXITED, as runpodctl wants it."""
        said = self._graphql(key, "podStop", STOP_MUTATION)
        if isinstance(said, Verdict):
            return said
        text = f"200, desired status {said.facts.status}"
        accepted = said.facts.status in OVER
        return Verdict(said=Said.YES, text=text) if accepted else Verdict(said=Said.NO, passing=True, text=text)

    def _pod_url(self) -> str:
        return f"{self.rest_url.rstrip('/')}/pods/{quote(self.pod_id, safe='')}"

    def _rest(self, key: ApiKey, method: str, url: str, body: Json) -> PodRead | Verdict:
        answer = self._ask(key, method, url, body)
        return answer if isinstance(answer, Verdict) else self._own(rest_pod(answer, self.secrets))

    def _graphql(self, key: ApiKey, operation: str, query: str) -> PodRead | Verdict:
        body: Json = {"query": query, "variables": {"podId": self.pod_id}}
        answer = self._ask(key, "POST", self.graphql_url, body)
        return answer if isinstance(answer, Verdict) else self._own(graphql_pod(answer, operation, self.secrets))

    def _ask(self, key: ApiKey, method: str, url: str, body: Json) -> Answer | Verdict:
        if not (key.secret.isascii() and key.secret.isprintable() and " " not in key.secret):
            return Verdict(said=Said.NO, text="not asked: the key has characters that no key has")
        timeout_s = min(self.call_timeout_s, self.ends_s - time.monotonic())
        if timeout_s <= 0:
            return Verdict(said=Said.NO, passing=True, text="not asked: out of time")
        content = None if body is None else json.dumps(body).encode()
        request = Request(method=method, url=url, headers=_headers(key, content), content=content)
        answer = ask(request, timeout_s=timeout_s)
        return Verdict(said=Said.NO, passing=True, text=answer.text) if isinstance(answer, NoAnswer) else answer

    def _own(self, said: PodRead | Verdict) -> PodRead | Verdict:
        if isinstance(said, PodRead) and said.facts.pod_id != self.pod_id:
            raise ProviderRefused(
                f"RunPod's API answered about another Pod than {self.pod_id}; nothing more is asked of it. "
                "Look at the address in IDLEWATCH_RUNPOD_API_URL and at RUNPOD_POD_ID"
            )
        return said


def _headers(key: ApiKey, content: bytes | None) -> dict[str, str]:
    """Return what each call carries. Without a User-Agent of its own, RunPod's edge answers 403 `error code: 1010`."""
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Authorization": f"Bearer {key.secret}",
        "User-Agent": f"idlewatch/{__version__}",
    }
    return headers if content is None else headers | {"Content-Type": "application/json"}
