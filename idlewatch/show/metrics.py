"""
What Prometheus is told, from what the daemon wrote: `status.json` and its timeline. Nothing here disturbs the daemon.

    idlewatch_up                        1 while a daemon watches, 0 where it is silent or has ended
    idlewatch_phase{phase}              1 for the phase of the end sequence, 0 for the others
    idlewatch_idle_seconds              seen quiet for so long
    idlewatch_acts_in_seconds           until the save of the end sequence; absent where none runs
    idlewatch_signal_state{signal,state}    1 for what a signal says: active, quiet, unknown, absent
    idlewatch_signal_age_seconds{signal}    age of its newest reading
    idlewatch_holds                     holds that stand
    idlewatch_trouble{name}             1 for each trouble that stands: `blind:gpu`, `STOP NOT CONFIRMED`, `save failed`
    idlewatch_uptime_seconds            of this start of the Pod
    idlewatch_spent_dollars             of this start; absent where the price is not known
    idlewatch_price_dollars_per_hour    absent likewise
    idlewatch_status_age_seconds        since the daemon's last tick
    idlewatch_info{pod,mode,version}    1

Where no daemon watches only `up`, `info` and the status' age are told: nothing else would be true of now. All are
gauges, and none carries a label that grows without bound: texts and reasons are not in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from idlewatch import __version__
from idlewatch.errors import IdlewatchError, Refused
from idlewatch.history.status import is_stale, mapping, number
from idlewatch.model import Activity, Json, Phase

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

JOB = "idlewatch"
PUSH_WITHIN_S = 10.0
Row = tuple[dict[str, str], float]


def exposition(status: Mapping[str, Json] | None, now_s: float, *, lives: bool) -> str:
    """The text format, version 0.0.4; `lives`: see `lock.daemon_watches`. Raises Refused without the extra."""
    text: bytes = _client().generate_latest(registry(status, now_s, lives=lives))
    return text.decode()


def registry(status: Mapping[str, Json] | None, now_s: float, *, lives: bool) -> CollectorRegistry:
    """All of it, as the official client has it. Raises Refused without the extra."""
    made: CollectorRegistry = _client().CollectorRegistry()
    made.register(_Collected(status, now_s, lives=lives))
    return made


def push(status: Mapping[str, Json] | None, now_s: float, gateway: str, pod: str, *, lives: bool) -> None:
    """
    Replace what a Pushgateway holds of this Pod. Raises IdlewatchError where it does not take it.

    The Pod is the `instance`, as where it is scraped: rules and dashboard then tell Pods apart either way.
    """
    try:
        found = registry(status, now_s, lives=lives)
        _client().push_to_gateway(
            gateway, job=JOB, grouping_key={"instance": pod}, registry=found, timeout=PUSH_WITHIN_S
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise IdlewatchError(f"the Pushgateway did not take it ({why}); write --push http://HOST:9091") from error


def _client() -> Any:
    try:
        import prometheus_client
    except ImportError:
        raise Refused("metrics need the official client: pip install '.[metrics]' in a checkout of idlewatch") from None
    return prometheus_client


class _Collected:
    """What the client asks for its metrics."""

    def __init__(self, status: Mapping[str, Json] | None, now_s: float, *, lives: bool) -> None:
        self._status, self._now_s, self._lives = status, now_s, lives

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        said = self._status
        alive = self._lives and said is not None and not is_stale(said, self._now_s)
        yield _family("idlewatch_up", "1 while a daemon watches", [({}, float(alive))])
        if said is None:
            return
        yield _family("idlewatch_info", "What is watched", [(_info(said), 1.0)])
        yield _family("idlewatch_status_age_seconds", "Since the last tick", [({}, _age_s(said, self._now_s))])
        if not alive:
            return
        for name, text, rows in (*_of_the_pod(said, self._now_s), *_of_signals(said, self._now_s)):
            if rows:
                yield _family(name, text, rows)


def _family(name: str, text: str, rows: list[Row]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    labels = list(rows[0][0])
    family = GaugeMetricFamily(name, text, labels=labels)
    for row, value in rows:
        family.add_metric([row[label] for label in labels], value)
    return family


def _age_s(said: Mapping[str, Json], now_s: float) -> float:
    return max(0.0, now_s - number(said.get("at_s")))


def _info(said: Mapping[str, Json]) -> dict[str, str]:
    return {"pod": str(said.get("pod_id") or ""), "mode": str(said.get("mode")), "version": __version__}


def _of_the_pod(said: Mapping[str, Json], now_s: float) -> Iterator[tuple[str, str, list[Row]]]:
    acts_at_s, phase, holds = said.get("acts_at_s"), said.get("phase"), said.get("holds")
    yield "idlewatch_phase", "Where the end sequence stands", [({"phase": p.value}, float(p == phase)) for p in Phase]
    yield "idlewatch_idle_seconds", "Seen quiet for so long", _one(said.get("idle_for_s"))
    acts_in_s = None if acts_at_s is None else max(0.0, number(acts_at_s) - now_s)
    yield "idlewatch_acts_in_seconds", "Until the save of the end sequence", _one(acts_in_s)
    yield "idlewatch_holds", "Holds that stand", [({}, float(len(holds)) if isinstance(holds, list) else 0.0)]
    yield "idlewatch_uptime_seconds", "Of this start of the Pod", _one(now_s - number(said.get("started_s")))
    yield "idlewatch_spent_dollars", "Of this start of the Pod", _one(said.get("spent_usd"))
    yield "idlewatch_price_dollars_per_hour", "Of this Pod", _one(said.get("usd_per_hour"))
    troubles: list[Row] = [({"name": name}, 1.0) for name in mapping(said.get("troubles"))]
    yield "idlewatch_trouble", "What people must hear of", troubles


def _of_signals(said: Mapping[str, Json], now_s: float) -> Iterator[tuple[str, str, list[Row]]]:
    signals = {name: mapping(one) for name, one in mapping(said.get("signals")).items()}
    states: list[Row] = [
        ({"signal": name, "state": state.value}, float(one.get("activity") == state))
        for name, one in signals.items()
        for state in Activity
    ]
    yield "idlewatch_signal_state", "What a signal says", states
    ages: list[Row] = [({"signal": name}, max(0.0, now_s - number(one.get("read_s")))) for name, one in signals.items()]
    yield "idlewatch_signal_age_seconds", "Age of its newest reading", ages


def _one(value: Json) -> list[Row]:
    return [({}, float(value))] if isinstance(value, int | float) else []
