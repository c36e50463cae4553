"""`report`: what this Pod cost and what stopping saved, from what was kept here and on the volume."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from idlewatch.errors import Refused
from idlewatch.history.status import mapping, number
from idlewatch.history.store import newest_of, readings_of, status_of
from idlewatch.kernel.own import registered
from idlewatch.machine_clock import MachineClock
from idlewatch.pod import storage
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.report import Boot, advice_of, billed, boots_of, card_named, comparison_of
from idlewatch.settings import Loaded
from idlewatch.shadow import Shadow, lives_of, shadow_of
from idlewatch.show.folding import COLUMNS
from idlewatch.show.report import Report, report_csv, report_html, report_json, report_lines
from idlewatch.signals import SIGNALS
from idlewatch.verbs.words import columns, loaded, say
from idlewatch.watching.learning import stakes_of

_READINGS_LOOKED_AT = 200


def report(options: argparse.Namespace) -> bool:
    """`idlewatch report`: `days`, `json`, `csv`, `html`, `usd_per_hour` and `card` are its options."""
    given = loaded()
    with registered(given.settings.state_dir):
        told = _report(options, given)
    if options.html:
        _write(Path(options.html), report_html(told))
    if options.json:
        say([json.dumps(report_json(told))])
    elif options.csv:
        say(report_csv(told).splitlines())
    elif not options.html:
        say(report_lines(told, min(COLUMNS, columns() or COLUMNS)))
    return True


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise Refused(f"can't write {path}: {error.strerror}; name a file in a folder that is there") from error
    say([f"Written to {path}."])


def _report(options: argparse.Namespace, given: Loaded) -> Report:
    here, clock = assembled(given), MachineClock()
    now, now_s = clock.wall(), clock.now_s()
    folder = here.volume / ".idlewatch" / here.pod_name if here.volume else None
    boots = boots_of(
        here.loaded.settings.state_dir,
        folder,
        now=now,
        now_s=now_s,
        boot_key=here.pod.boot_key,
        started_s=here.pod.started_s,
    )
    from_ = max(now - timedelta(days=options.days), min(boot.began for boot in boots))
    bill = billed(boots, from_=from_, to=now, usd_per_hour=options.usd_per_hour or _price(here))
    name, gpus = _gpus(here)
    card = card_named(options.card or name)
    if options.card and card is None:
        raise Refused(f"Serverless has no card named {options.card!r}; write it as 4090, A100 or H100")
    network = here.loaded.pod_variable("RUNPOD_VOLUME_ID") is not None
    return Report(
        pod=here.pod.pod_id or "this machine",
        bill=bill,
        starts=sum(boot.ended > from_ for boot in boots),
        card=card,
        comparison=comparison_of(bill, card, gpus),
        advice=advice_of(here.loaded.settings.state_dir, now_s, bill.usd_per_hour),
        shadow=None if options.csv else _shadow(here, boots, from_, bill.usd_per_hour, options.others_within_s),
        storage=storage.while_stopped(here.pod.pod_id, here.volume, network=network),
    )


def _shadow(
    here: Assembly, boots: Sequence[Boot], from_: datetime, usd_per_hour: float | None, within_s: float
) -> Shadow:
    """What other settings would have done since then; takes so much CPU time at the most."""
    return shadow_of(
        lives_of(boots, from_),
        here.loaded,
        usd_per_hour=usd_per_hour,
        restart_usd=stakes_of(here.loaded.settings)(usd_per_hour).restart_usd if usd_per_hour else 0.0,
        factories=SIGNALS,
        state_dir=here.loaded.settings.state_dir,
        spent_s=time.process_time,
        within_s=within_s,
    )


def _price(here: Assembly) -> float | None:
    """What the daemon knows, or the owner set."""
    said = status_of(here.loaded.settings.state_dir) or {}
    return number(said.get("usd_per_hour")) or here.loaded.settings.usd_per_hour or None


def _gpus(here: Assembly) -> tuple[str, int]:
    """The name of the cards and their number, as the newest reading has them."""
    state_dir = here.loaded.settings.state_dir
    found = ("", 1)
    for _, reading in readings_of(state_dir, after=max(0, newest_of(state_dir).reading - _READINGS_LOOKED_AT)):
        gpus = reading.facts.get("gpus") if reading.signal == "gpu" else None
        if isinstance(gpus, list) and gpus:
            found = str(mapping(gpus[0]).get("name", "")), len(gpus)
    return found
