"""
RunPod: says whether this Pod may be stopped from inside, reads it, and stops it.

The key that RunPod puts into a Pod may or may not stop it, by API and by date, and no list of its rights is
published. So a stop climbs a ladder: for each key REST v2, then GraphQL. What an answer proves is judged in
`verdicts`; here stands what follows from it. A lock is the owner's wish: once an answer may mean one, no other rung
is tried to get around it. Nothing here terminates a Pod.

All of it blocks, each call and the whole run within a deadline: it is called in a short-lived child process.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from idlewatch.errors import ProviderError, ProviderRefused, ProviderUnavailable
from idlewatch.model import StopAnswer
from idlewatch.providers.runpod_api import ApiKey, RunpodApi
from idlewatch.providers.verdicts import OVER, PodRead, Said, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from idlewatch.model import PodFacts, PodIdentity

__all__ = ["ApiKey", "RunpodProvider"]

WORKER_VARIABLES = (
    "RUNPOD_ENDPOINT_ID",
    "RUNPOD_WEBHOOK_GET_JOB",
    "RUNPOD_WEBHOOK_PING",
    "RUNPOD_WEBHOOK_POST_OUTPUT",
    "RUNPOD_REALTIME_PORT",
    "RUNPOD_AI_API_KEY",
)
"""What RunPod sets in a Serverless worker (its volume-cache page and runpod-python's worker and logger)."""

_READ_SHARE = 1 / 3
"""Of the whole deadline: reads that hang must leave time for the stop."""

_OTHER_KEY = "a key of yours with the right to change Pods, in IDLEWATCH_RUNPOD_API_KEY, would help"
_REFUSAL_MOST = 60
_KEY_REFUSED = {"401": "RunPod does not know it (revoked?)", "403": "It lacks the right"}
"""What a refusal of a key means, by HTTP status."""

_Read: TypeAlias = Callable[[ApiKey], PodRead | Verdict]
_Stop: TypeAlias = Callable[[ApiKey], Verdict]


@dataclass(frozen=True, slots=True)
class _Tried:
    """One rung and what it answered."""

    rung: str
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.rung}: {self.verdict.text}"


class RunpodProvider:
    """
    The Pod that we are in, on RunPod, as `model.Provider`.

    `environment` is the Pod's RUNPOD_ variables as found, `keys` are tried in order (blanks around a key are cut off,
    empty ones left out), `call_timeout_s` bounds each call and `total_deadline_s` a whole `stop` or `describe`.
    """

    name = "runpod"

    def __init__(
        self,
        *,
        identity: PodIdentity,
        environment: Mapping[str, str],
        keys: Sequence[ApiKey],
        rest_url: str,
        graphql_url: str,
        call_timeout_s: float = 10.0,
        total_deadline_s: float = 60.0,
    ) -> None:
        self._identity = identity
        self._environment = environment
        stripped = [replace(key, secret=key.secret.strip()) for key in keys]
        self._keys = tuple(key for key in stripped if key.secret)
        self._rest_url = rest_url
        self._graphql_url = graphql_url
        self._call_timeout_s = call_timeout_s
        self._total_deadline_s = total_deadline_s

    def refusal(self) -> str | None:
        """Why this Pod must not be stopped from inside, from the environment alone, and what would help."""
        return self._worker_refusal() or self._identity_refusal()

    def describe(self) -> PodFacts:
        """
        Read the Pod: REST v2 with each key, then GraphQL with each.

        Raises ProviderRefused or ProviderUnavailable. GraphQL tells neither lock nor cluster (False), and a volume's
        path only of a volume disk.
        """
        read, tried = _first_read(self._api(), self._keys)
        if read is None:
            raise _failure("RunPod's API did not let this Pod be read", tried)
        return read.facts

    def forbids(self, facts: PodFacts) -> str | None:
        """Why RunPod does not let this Pod be stopped from inside, as it was read; None where it does."""
        if facts.locked:
            return "this Pod is locked against stopping; unlock it in RunPod's console to let it be stopped"
        if facts.cluster:
            return (
                "this Pod belongs to an Instant Cluster, whose Pods RunPod does not let be stopped one by one; "
                "stop the cluster in RunPod's console"
            )
        return None

    def stop(self) -> StopAnswer:
        """
        Ask for the stop, rung by rung, until one accepts.

        Raises ProviderRefused where every rung refused for good, or the Pod is locked or in a cluster; else
        ProviderUnavailable with the longest wait that a rung asked for. Either text lists each rung and its answer.
        """
        api = self._api()
        self._bar_if_forbidden(_first_read(api.ending_in(self._total_deadline_s * _READ_SHARE), self._keys)[0])
        tried: list[_Tried] = []
        for rung, call, key in self._rungs(api):
            verdict, is_last = self._explained(api, call(key))
            if verdict.said is Said.YES:
                already = f" (already {verdict.already})" if verdict.already else ""
                return StopAnswer(accepted_by=f"{rung}{already}", tried=tuple(map(str, tried)))
            tried.append(_Tried(rung, verdict))
            if is_last:
                break
        raise _failure("RunPod's API did not accept the stop of this Pod", tried)

    def _worker_refusal(self) -> str | None:
        found = next((name for name in WORKER_VARIABLES if self._environment.get(name)), None)
        if found is None:
            return None
        return (
            f"this is a Serverless worker ({found} is set), which RunPod itself scales to zero; set the endpoint's "
            "idle timeout instead"
        )

    def _identity_refusal(self) -> str | None:
        pod_id, named = self._identity.pod_id, self._environment.get("RUNPOD_POD_ID", "")
        if pod_id is None:
            return (
                f"no Pod id: {self._identity.source}; an id is never guessed. Start idlewatch where RUNPOD_POD_ID is "
                "set, from the Pod's start command or /post_start.sh"
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", pod_id):
            return f"the Pod id from {self._identity.source} has characters that no Pod id has; set RUNPOD_POD_ID right"
        if named and named != pod_id:
            return (
                f"two Pod ids: {pod_id} from {self._identity.source}, and another in RUNPOD_POD_ID; neither is "
                "trusted. Unset RUNPOD_POD_ID where it was set by hand"
            )
        return None

    def _api(self) -> RunpodApi:
        refusal, pod_id = self.refusal(), self._identity.pod_id
        if refusal is not None or pod_id is None:
            raise ProviderRefused(refusal or "no Pod id")
        if not self._keys:
            raise ProviderRefused(f"no API key: RUNPOD_API_KEY is not set either; {_OTHER_KEY}")
        return RunpodApi(
            pod_id=pod_id,
            rest_url=self._rest_url,
            graphql_url=self._graphql_url,
            call_timeout_s=self._call_timeout_s,
            ends_s=time.monotonic() + self._total_deadline_s,
            secrets=tuple(key.secret for key in self._keys),
        )

    def _rungs(self, api: RunpodApi) -> Iterator[tuple[str, _Stop, ApiKey]]:
        for key in self._keys:
            yield f"REST v2 with {key.name}", api.rest_stop, key
            yield f"GraphQL with {key.name}", api.graphql_stop, key

    def _bar_if_forbidden(self, read: PodRead | None) -> None:
        refusal = self.forbids(read.facts) if read else None
        if refusal:
            raise ProviderRefused(refusal)

    def _explained(self, api: RunpodApi, verdict: Verdict) -> tuple[Verdict, bool]:
        """Return what an answer about the Pod's state means once the Pod was read, and whether to ask no other rung."""
        if verdict.said is not Said.STATE:
            return verdict, False
        read, _ = _first_read(api, self._keys)
        self._bar_if_forbidden(read)
        if read is not None and read.facts.status in OVER:
            return Verdict(said=Said.YES, text=verdict.text, already=read.facts.status), True
        return _unexplained(verdict, read)


def _unexplained(verdict: Verdict, read: PodRead | None) -> tuple[Verdict, bool]:
    if read is None or not read.lock_known:
        why = "a locked Pod may answer so, and no key reads whether it is: no other way is tried"
    else:
        why = f"the Pod is {read.facts.status} and not locked"
    is_last = read is None or not read.lock_known
    return replace(verdict, said=Said.NO, text=f"{verdict.text} ({why})"), is_last


def _first_read(api: RunpodApi, keys: Sequence[ApiKey]) -> tuple[PodRead | None, list[_Tried]]:
    """Return the first Pod that any way of reading gives, and the ways that failed before."""
    ways: tuple[tuple[str, _Read], ...] = (("REST v2", api.rest_read), ("GraphQL", api.graphql_read))
    tried: list[_Tried] = []
    for api_name, call in ways:
        for key in keys:
            said = call(key)
            if isinstance(said, PodRead):
                return said, tried
            tried.append(_Tried(f"{api_name} with {key.name}", said))
    return None, tried


def _failure(what: str, tried: Sequence[_Tried]) -> ProviderError:
    if told := _all_refused(tried):
        return ProviderRefused(f"{what}: {told}")
    listed = "; ".join(map(str, tried))
    if any(one.verdict.passing for one in tried):
        waits = [one.verdict.retry_after_s for one in tried if one.verdict.retry_after_s is not None]
        return ProviderUnavailable(f"{what}: {listed}", retry_after_s=max(waits, default=None))
    return ProviderRefused(f"{what}: {listed}. If the key lacks the right, {_OTHER_KEY}")


def _all_refused(tried: Sequence[_Tried]) -> str | None:
    """In short, where several rungs refused alike: a screen has room for what helps; None where they did not."""
    codes = {one.verdict.text[:4] for one in tried}
    code = next(iter(codes)).strip() if len(codes) == 1 else ""
    if len(tried) < 2 or code not in _KEY_REFUSED or any(one.verdict.passing for one in tried):
        return None
    said = tried[0].verdict.text
    short = said if len(said) <= _REFUSAL_MOST else f"{said[: _REFUSAL_MOST - 1]}…"
    return f"every key was refused: {short}. {_KEY_REFUSED[code]}: {_OTHER_KEY}"
