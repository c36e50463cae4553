"""`metrics`: what Prometheus is told, printed or pushed."""

from __future__ import annotations

import argparse

from idlewatch import assembly, metrics
from idlewatch.history import status_of
from idlewatch.verbs.words import loaded, say
from idlewatch.watch import MachineClock


def told(options: argparse.Namespace) -> bool:
    """`idlewatch metrics`: `push` is its option, a Pushgateway's address."""
    given = loaded()
    status, now_s = status_of(given.settings.state_dir), MachineClock().now_s()
    if options.push:
        pod = assembly.assembled(given).pod.pod_id or "no-pod"
        metrics.push(status, now_s, options.push, pod)
        say(["Pushed."])
    else:
        say(metrics.exposition(status, now_s).splitlines())
    return True
