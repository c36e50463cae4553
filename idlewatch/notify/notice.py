"""
What people are told, and the JSON that a webhook gets.

Format 1 of the JSON, one object a notice; new keys may be added without a new number, none is renamed or dropped:

    format            1
    id                the same in every try to deliver this notice: drop what you have had already
    kind              `warning` · `off` · `saved` · `stop` · `ended` · `alarm` · `test`
    alarm             of an alarm its name (`save failed`, `STOP NOT CONFIRMED`, `blind:gpu`), else null
    at                wall clock, ISO 8601, UTC
    pod_id, pod_name  null where not known
    headline, text    for people: one line; all of it
    reason            why, in one clause
    usd_so_far, usd_per_hour     of this start; null where the price is not known
    left_out          how many notices were left out before this one

and of some kinds: `cause` (`idle`, `ceiling`, `request`), `idle_for_s`, `begins_in_s`, `begins_at` (warning: the save),
`lost` (what nothing saves), `keep_link` (warning of an idle Pod whose page is served: an address whose button holds the
Pod, once; else null), `snapshot` (its id), `storage` (what the stopped Pod goes on costing).

`stop` comes once an end sequence, when the stop is asked for the first time, whatever becomes of it: that it happened
only the next start can prove, that it did not is the alarm `STOP NOT CONFIRMED`, `stop failed` or `stop refused`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import uuid4

from idlewatch.model import Json

FORMAT = 1
_A_DAY_S = 24 * 3600.0


class Kind(StrEnum):
    """What a notice is about."""

    WARNING = "warning"
    OFF = "off"
    SAVED = "saved"
    STOP = "stop"
    ENDED = "ended"
    ALARM = "alarm"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing that people are told."""

    kind: Kind
    headline: str
    """One line without the Pod's name."""
    text: str
    """Several lines for a terminal or a message."""
    at: str
    """Wall clock, ISO 8601, UTC."""
    useful_for_s: float = _A_DAY_S
    """How long it is still worth delivering."""
    alarm: str | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid4().hex)

    def as_json(self) -> dict[str, Json]:
        """The webhook's object, without `left_out`."""
        return {
            "format": FORMAT,
            "id": self.id,
            "kind": self.kind.value,
            "alarm": self.alarm,
            "at": self.at,
            "headline": self.headline,
            "text": self.text,
            **self.facts,
        }
