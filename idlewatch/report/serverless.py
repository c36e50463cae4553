"""
Pod or Serverless: what the same GPU work would cost there, and from which utilization on a Pod is cheaper. Pure.

Prices are list prices in dollars a second, from RunPod's documentation (serverless pricing table, flex: edit of
2026-06-08; active: as it stood before 2026-05-13). They move; the Pod's own price comes from the API.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from idlewatch.report.bill import Bill

PRICES_OF = "2026-06-08"
_HOUR_S = 3600.0
COLD_START_S = 15.0
"""A flex worker bills while it starts and loads the model; a guess, said as one."""
LEAST_WATCHED_S = 8 * _HOUR_S
"""A working day: of less nobody can tell intermittent work from a day that has just begun."""
INTERMITTENT_BELOW = 0.5
"""Of the break-even: with less, prices would have to be wrong by half before a Pod were the better buy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What Serverless asks for a class of cards."""

    names: tuple[str, ...]
    """As they stand in the driver's name, without blanks, in lower case."""
    label: str
    flex_usd_per_s: float
    active_usd_per_s: float | None


CARDS = (
    Card(names=("a4000", "a4500", "rtx4000"), label="16 GB", flex_usd_per_s=0.00016, active_usd_per_s=0.00011),
    Card(names=("l4", "a5000", "3090"), label="24 GB", flex_usd_per_s=0.00019, active_usd_per_s=0.00013),
    Card(names=("4090",), label="24 GB PRO", flex_usd_per_s=0.00031, active_usd_per_s=0.00021),
    Card(names=("a6000", "a40"), label="48 GB", flex_usd_per_s=0.00034, active_usd_per_s=0.00024),
    Card(names=("l40", "l40s", "6000ada"), label="48 GB PRO", flex_usd_per_s=0.00053, active_usd_per_s=0.00037),
    Card(names=("a100",), label="80 GB", flex_usd_per_s=0.00076, active_usd_per_s=0.00060),
    Card(names=("pro6000",), label="96 GB PRO", flex_usd_per_s=0.00111, active_usd_per_s=None),
    Card(names=("h100",), label="80 GB PRO", flex_usd_per_s=0.00116, active_usd_per_s=0.00093),
    Card(names=("h200",), label="141 GB", flex_usd_per_s=0.00155, active_usd_per_s=0.00124),
    Card(names=("b200",), label="180 GB", flex_usd_per_s=0.00240, active_usd_per_s=0.00190),
)


def card_named(name: str) -> Card | None:
    """Return the class of a card by the driver's name (`NVIDIA A100-SXM4-80GB`); None for one that is not offered."""
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    joined = [*words, *(a + b for a, b in pairwise(words))]
    found = [(len(known), card) for card in CARDS for known in card.names if known in joined]
    return max(found, key=lambda one: one[0])[1] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The same work as a Pod and as Serverless workers; dollars over the period."""

    pod_usd: float
    flex_usd: float
    active_usd: float | None
    """One active worker all the time, and none beside it."""
    break_even: float
    """The share of the time at work above which this Pod is cheaper than flex workers."""
    busy: float
    """The share that was."""

    @property
    def advice(self) -> str:
        """In one sentence."""
        flex = f"${self.flex_usd:.2f} as flex workers against ${self.pod_usd:.2f}"
        from_ = f"from {self.break_even:.0%} on" if self.break_even <= 1 else "at no utilization, by these prices"
        told = f"a GPU was at work for {self.busy:.1%} of the time, and a Pod is cheaper {from_}"
        if self.busy < INTERMITTENT_BELOW * self.break_even and self.flex_usd < self.pod_usd:
            return f"intermittent: {told}; requests like these would cost {flex}"
        if self.busy < self.break_even and self.flex_usd < self.pod_usd:
            return f"near the break-even: {told}; {flex}: too near to say"
        return f"sustained: {told}; stay with the Pod ({flex})"


def comparison_of(bill: Bill, card: Card | None, gpus: int = 1) -> Comparison | None:
    """Compare what was watched of a period; None where it is too little, or the price or the card is not known."""
    if card is None or bill.usd_per_hour is None or bill.watched_s < LEAST_WATCHED_S:
        return None
    return compared(
        up_s=bill.watched_s, gpu_s=bill.gpu_s, runs=bill.runs, usd_per_hour=bill.usd_per_hour, card=card, gpus=gpus
    )


def compared(
    *,
    up_s: float,
    gpu_s: float,
    runs: int,
    usd_per_hour: float,
    card: Card,
    gpus: int = 1,
    cold_start_s: float = COLD_START_S,
) -> Comparison:
    """
    Compare `gpu_s` seconds of work in `runs` runs, within `up_s` billed seconds of a Pod with `gpus` cards.

    Each run is billed its cold start, as if no worker were warm: the dearest that flex can be. `usd_per_hour` is the
    whole Pod's.
    """
    flex_s = gpu_s + runs * cold_start_s
    active = None if card.active_usd_per_s is None else up_s * card.active_usd_per_s * gpus
    return Comparison(
        pod_usd=up_s / _HOUR_S * usd_per_hour,
        flex_usd=flex_s * card.flex_usd_per_s * gpus,
        active_usd=active,
        break_even=usd_per_hour / (card.flex_usd_per_s * _HOUR_S * gpus),
        busy=gpu_s / up_s if up_s else 0.0,
    )
