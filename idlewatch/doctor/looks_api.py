"""
Looks at RunPod's API: what each way of reading this Pod answers to each key, and the way to it.

Nothing but reads is sent, and no key goes to any address but the API's own two. In a child process: name lookups and
connections hang.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from idlewatch import __version__, assembly
from idlewatch.errors import ProviderRefused
from idlewatch.model import Json
from idlewatch.pod import identity as pod
from idlewatch.pod.assembled import Assembly
from idlewatch.pod.keys import found_keys
from idlewatch.providers import transport
from idlewatch.providers.runpod_api import ApiKey, RunpodApi
from idlewatch.providers.verdicts import PodRead, Verdict
from idlewatch.settings import Loaded, load, pod_sources

CALL_WITHIN_S = 10.0
ALL_CALLS_WITHIN_S = 25.0
EXCHANGE_WITHIN_S = 10.0
TRUST_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""What httpx lets name another CA bundle than certifi's (its `create_ssl_context`)."""


def api(_request: Json, progress: Callable[[Json], None]) -> Json:
    """
    Return what each way answered: `answers`, a list of `api`, `key`, `read`, `text`, `passing`, in a stop's own order.

    `pod` is the Pod as the first way that read it tells it, `lock_known` whether that way tells locks and clusters,
    `forbids` why it may not be stopped. Where nothing was asked, `not_asked` says why.
    """
    loaded = load(pod_sources())
    here = Assembly(loaded=loaded, pod=pod.identity(loaded.sources), volume=None, save_root=None)
    provider, keys = assembly.provider(here), found_keys(loaded)
    refusal = provider.refusal() or (None if keys else "no key to ask with")
    if refusal or here.pod.pod_id is None:
        return {"not_asked": refusal}
    progress({"at": "asking RunPod's API"})
    answers = _answers(_api(loaded, here.pod.pod_id), [ApiKey(name=key.name, secret=key.secret) for key in keys])
    first = next((said for _, _, said in answers if isinstance(said, PodRead)), None)
    return {
        "answers": [_answer(api_name, key, said) for api_name, key, said in answers],
        "pod": asdict(first.facts) if first else None,
        "lock_known": bool(first and first.lock_known),
        "forbids": provider.forbids(first.facts) if first else None,
    }


def _api(loaded: Loaded, pod_id: str) -> RunpodApi:
    return RunpodApi(
        pod_id=pod_id,
        rest_url=loaded.settings.runpod_api_url,
        graphql_url=loaded.settings.runpod_graphql_url,
        call_timeout_s=CALL_WITHIN_S,
        ends_s=time.monotonic() + ALL_CALLS_WITHIN_S,
        secrets=tuple(key.secret for key in found_keys(loaded)),
    )


def _answers(api: RunpodApi, keys: list[ApiKey]) -> list[tuple[str, str, PodRead | Verdict | ProviderRefused]]:
    """Ask in every way at once: one way that hangs must not use up the others' time."""
    ways = (("REST v2", api.rest_read), ("GraphQL", api.graphql_read))
    with ThreadPoolExecutor(max_workers=len(keys) * len(ways)) as pool:
        asked = [(name, key, pool.submit(_said, call, key)) for name, call in ways for key in keys]
        return [(name, key.name, future.result()) for name, key, future in asked]


def _said(call: Callable[[ApiKey], PodRead | Verdict], key: ApiKey) -> PodRead | Verdict | ProviderRefused:
    try:
        return call(key)
    except ProviderRefused as error:
        return error


def _answer(api_name: str, key: str, said: PodRead | Verdict | ProviderRefused) -> Json:
    if isinstance(said, PodRead):
        return {"api": api_name, "key": key, "read": True, "text": said.facts.status, "passing": False}
    if isinstance(said, Verdict):
        return {"api": api_name, "key": key, "read": False, "text": said.text, "passing": said.passing}
    return {"api": api_name, "key": key, "read": False, "text": str(said), "passing": False}


def network(_request: Json, progress: Callable[[Json], None]) -> Json:
    """
    Return what lies on the way to the API.

    `trust`: the CA bundle, see `_trust` · `names`: host -> its addresses' number, or why it has none · `clock`: by how
    many seconds this clock is ahead of the API's Date, or None with `clock_error`.
    """
    loaded = load(pod_sources())
    urls = [loaded.settings.runpod_api_url, loaded.settings.runpod_graphql_url]
    context, https = _context(), urls[0].startswith("https:")
    said: dict[str, Json] = {"trust": _trust(loaded.sources[0].variables, context), "https": https}
    names: dict[str, Json] = {}
    for host in dict.fromkeys(urlsplit(url).hostname or "" for url in urls):
        progress({**said, "names": {**names}, "at": f"looking up {host}"})
        names[host] = _addresses(host)
    said["names"] = {**names}
    progress({**said, "at": f"waiting for the Date of {urlsplit(urls[0]).hostname}"})
    return said | _clock(urls[0], context)


def _context() -> ssl.SSLContext | str:
    """What the stop itself trusts, and nothing that resembles it; or why there is nothing."""
    try:
        return transport.trust()
    except (OSError, ssl.SSLError) as error:
        return type(error).__name__


def _trust(variables: Mapping[str, str], context: ssl.SSLContext | str) -> dict[str, Json]:
    """`named` and `path` of the bundle, whether it is `there`, how many `certificates` count, `error` where none do."""
    import certifi

    named = next((name for name in TRUST_VARIABLES if variables.get(name)), None)
    path = variables[named] if named else certifi.where()
    return {
        "named": named,
        "path": path,
        "there": Path(path).exists(),
        "error": context if isinstance(context, str) else None,
        "certificates": 0 if isinstance(context, str) else context.cert_store_stats()["x509_ca"],
    }


def _addresses(host: str) -> Json:
    try:
        return len({entry[4][0] for entry in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError) as error:
        return f"{getattr(error, 'strerror', None) or type(error).__name__}"


def _clock(rest_url: str, context: ssl.SSLContext | str) -> dict[str, Json]:
    """Ask for the API's own description, which needs no key: any answer has a Date (RFC 9110, 6.6.1)."""
    import httpx

    if isinstance(context, str):
        return {"clock": None, "clock_error": "without certificates it is not asked"}
    url = f"{rest_url.rstrip('/')}/openapi.json"
    loopback = urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}
    before = datetime.now(UTC)
    try:
        with (
            httpx.Client(verify=context, timeout=EXCHANGE_WITHIN_S, trust_env=not loopback) as client,
            client.stream("GET", url, headers={"User-Agent": f"idlewatch/{__version__}"}) as response,
        ):
            told = response.headers.get("date", "")
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return {"clock": None, "clock_error": f"no answer to read a Date from ({type(error).__name__})"}
    middle = before + (datetime.now(UTC) - before) / 2
    try:
        return {"clock": round((middle - parsedate_to_datetime(told)).total_seconds(), 1)}
    except (TypeError, ValueError):
        return {"clock": None, "clock_error": "its answer has no Date"}
