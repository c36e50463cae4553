"""`web`: the page, in a process of its own, and the link to it."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from idlewatch.errors import Refused, SignalError
from idlewatch.kernel.own import registered
from idlewatch.machine_clock import MachineClock
from idlewatch.pod import identity as pod
from idlewatch.settings import Loaded
from idlewatch.verbs.faults import meaning
from idlewatch.verbs.words import loaded, say, warn
from idlewatch.web.address import address, served_at, serving
from idlewatch.web.keys import keys_of, new_token

_NICE = 5
"""Whatever is shown may wait; what watches may not."""
_SERVED: Mapping[str, Any] = {
    "log_config": None,
    "access_log": False,  # it would have the token of the login link in it
    "server_header": False,
    "proxy_headers": False,  # whoever calls may say anything there
    "ws": "none",
    "lifespan": "off",
    "limit_concurrency": 200,
    "timeout_graceful_shutdown": 3,
}
"""How uvicorn is told to serve."""


def web(options: argparse.Namespace) -> bool:
    """`idlewatch web`: serves until it is told to end; with `--link` or `--new-link` only prints the login link."""
    told = loaded()
    pod_id = _pod_id(told)
    host = options.host or ("0.0.0.0" if pod_id else "127.0.0.1")  # noqa: S104  (RunPod's proxy comes from outside)
    outside = None if host in ("127.0.0.1", "::1", "localhost") else pod_id  # no proxy reaches what listens there
    url = address(outside, host, options.port)
    if options.link or options.new_link:
        return _print_link(told, url, new=options.new_link)
    _serve(told, host, options.port, url)
    return True


def _print_link(told: Loaded, url: str, *, new: bool) -> bool:
    state_dir = told.settings.state_dir
    keys = new_token(state_dir) if new else keys_of(state_dir)
    now_at = served_at(state_dir)
    say([f"{now_at or url}/?token={keys.token}"])
    if now_at is None:
        warn("nothing is served there now; `idlewatch web` starts it")
    return True


def _pod_id(told: Loaded) -> str | None:
    with suppress(SignalError, OSError):
        return pod.identity(told.sources).pod_id
    return None


def _serve(told: Loaded, host: str, port: int, url: str) -> None:
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise Refused("the page needs two packages more: pip install '.[web]' in a checkout of idlewatch")
    import uvicorn

    from idlewatch.web.app import page_app
    from idlewatch.web.connections import impatient
    from idlewatch.web.live import Watched

    settings = told.settings
    watched = Watched(
        state_dir=settings.state_dir,
        clock=MachineClock(),
        limits=settings.limits(),
        hold_max_s=settings.hold_max.total_seconds(),
    )
    with serving(settings.state_dir, url), _bound(host, port) as bound, registered(settings.state_dir) as moved:
        os.nice(_NICE)
        say([f"Serving the page at {url}; `idlewatch web --link` prints the link to sign in. Ctrl-C ends it."])
        with suppress(KeyboardInterrupt):
            config = uvicorn.Config(page_app(watched, moved=moved), http=impatient(), **_SERVED)
            uvicorn.Server(config).run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise Refused(
            f"can't serve at {host} port {port}: {meaning(error)}; name others with --host, --port"
        ) from error
