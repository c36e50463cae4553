"""What people of this Pod are told, and the ways to them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable
from datetime import datetime

from idlewatch.children.tasks import Task
from idlewatch.errors import Refused, SettingsError
from idlewatch.model import Json
from idlewatch.notify import by_apprise
from idlewatch.notify.addresses import Address, addresses
from idlewatch.notify.channel import Channel
from idlewatch.notify.words import PodNow, Words
from idlewatch.pod.assembled import Assembly
from idlewatch.pod.saving import save_plan
from idlewatch.pod.storage import storage_cost
from idlewatch.settings import OnSaveFailure
from idlewatch.web import keep_link, served_at

_LINK_HOLDS_S = 2 * 3600.0


def words(here: Assembly, wall: Callable[[], datetime]) -> Words:
    """What is said of this Pod; `wall` is the clock that people go by."""
    plan, settings = save_plan(here), here.loaded.settings
    return Words(
        pod_id=here.pod.pod_id,
        saved_to=str(here.place) if plan.request is not None else None,
        lost=plan.impossible,
        storage=storage_cost(here),
        stops_unsaved=settings.on_save_failure is OnSaveFailure.STOP,
        wall=wall,
        now=PodNow(),
        link=lambda: _keep_link(here, wall()),
    )


def _keep_link(here: Assembly, now: datetime) -> str | None:
    """An address that holds the Pod by one press, for whoever reads a notice elsewhere; only while the page runs."""
    state_dir = here.loaded.settings.state_dir
    with contextlib.suppress(Refused, OSError):  # a notice without it is worth more than none
        url = served_at(state_dir)
        return keep_link(state_dir, url, _LINK_HOLDS_S, now) if url else None
    return None


def channels(
    here: Assembly, start_task: Callable[[str, Json, float, float], Task], *, tmux: bool = False
) -> list[Channel]:
    """The ways out of the Pod: tmux, and the addresses of IDLEWATCH_NOTIFY."""

    def channel(label: str, task: str) -> Channel:
        return Channel(
            label,
            lambda notice, now_s, within_s: start_task(task, {"channel": label, "notice": notice}, now_s, within_s),
        )

    sent = [channel(address.label, "send") for address in addresses_of(here)]
    return [*([channel("tmux", "tmux")] if tmux else []), *sent]


def addresses_of(here: Assembly) -> tuple[Address, ...]:
    """The addresses of IDLEWATCH_NOTIFY: secrets. Raises SettingsError where one is none."""
    try:
        return addresses(here.loaded.settings.notify.get_secret_value())
    except ValueError as error:
        raise SettingsError([f"IDLEWATCH_NOTIFY: {error}"]) from None


def unsendable(here: Assembly) -> str | None:
    """Why some notices would reach nobody, in words; None: nothing stands in their way that can be seen beforehand."""
    passed_on = [address for address in addresses_of(here) if not address.webhook]
    if not passed_on:
        return None
    if importlib.util.find_spec("apprise") is None:
        labels = ", ".join(address.label for address in passed_on)
        return f"IDLEWATCH_NOTIFY: {labels}: {by_apprise.NEEDED}"
    refusals = by_apprise.refusals([address.url for address in passed_on])
    refused = [f"{one.label}: {why}" for one, why in zip(passed_on, refusals, strict=True) if why]
    return f"IDLEWATCH_NOTIFY: {'; '.join(refused)}" if refused else None
