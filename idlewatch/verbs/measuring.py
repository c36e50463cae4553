"""`metrics`: what Prometheus is told, printed or pushed."""

from __future__ import annotations

import argparse

from idlewatch.history.store import status_of
from idlewatch.machine_clock import MachineClock
from idlewatch.pod.assembled import assembled
from idlewatch.show import metrics
from idlewatch.state_folder import daemon_watches
from idlewatch.verbs.words import loaded, say


def told(options: argparse.Namespace) -> bool:
    """`idlewatch metrics`: `push` is its option, a Pushgateway's address."""
    given = loaded()
    lives = daemon_watches(given.settings.state_dir)  # before what it says: one that ends in between has said so
    status, now_s = status_of(given.settings.state_dir), MachineClock().now_s()
    if options.push:
        pod = assembled(given).pod.pod_id or "no-pod"
        metrics.push(status, now_s, options.push, pod, lives=lives)
        say(["Pushed."])
    else:
        say(metrics.exposition(status, now_s, lives=lives).splitlines())
    return True
