"""
Each default moved by itself, all else as it is: what idleness and restarts then cost, and the stops in use.

On seeds that no default was chosen on. Limits of judges are no settings; they are given to the real judges here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.judgement.days import FAINT, KINDS, life
from benchmarks.judgement.measures import Cost, cost
from benchmarks.judgement.observed import observed
from benchmarks.judgement.product import Factories, Product
from benchmarks.judgement.table import STEP_S
from idlewatch.gpu.reader import GpuReader
from idlewatch.signals import SIGNALS
from idlewatch.signals.gpu import GpuSignal
from idlewatch.signals.host import HostSignal
from idlewatch.signals.jobs import JobsSignal
from idlewatch.signals.making import KERNEL

FIRST = 500
"""Added to every seed: other lives than those of the table."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The product with one value of one default."""

    value: str
    product: Product
    step_s: float = STEP_S


@dataclass(frozen=True, slots=True)
class Point:
    """What that cost."""

    value: str
    cost: Cost
    is_default: bool

    @property
    def usd_a_day(self) -> float:
        """Idleness and restarts."""
        return self.cost.usd / self.cost.days

    @property
    def in_use(self) -> int:
        """Stops of a Pod in use."""
        return self.cost.in_use


@dataclass(frozen=True, slots=True)
class Curve:
    """One default."""

    name: str
    points: Sequence[Point]


def measured(seeds: Sequence[int]) -> list[Curve]:
    """A curve for each default, on one life for each kind and seed; limits of judges on faint lives alone."""
    kinds = tuple(KINDS)
    told = [_curve(*one, kinds, seeds) for one in _variants()]
    return [*told, *_faint_curves(range(6 * len(seeds)))]


def _faint_curves(seeds: Sequence[int]) -> Iterator[Curve]:
    """Each limit on the faint lives of its own kind."""
    for kind, one in enumerate(_limits()):
        yield _curve(*one, (FAINT,), [seed for seed in seeds if (FIRST + seed) % 3 == kind])


def _curve(name: str, default: str, told: Sequence[Variant], kinds: Sequence[str], seeds: Sequence[int]) -> Curve:
    return Curve(name, [Point(v.value, _cost(kinds, seeds, v), v.value == default) for v in told])


def _variants() -> Sequence[tuple[str, str, Sequence[Variant]]]:
    return (
        ("IDLE_AFTER", "30m", [_set(IDLE_AFTER=one) for one in ("10m", "20m", "30m", "45m", "60m", "90m")]),
        ("CONNECTED_FOR", "3h", [_set(CONNECTED_FOR=one) for one in ("0", "1h", "2h", "3h", "4h", "6h")]),
        ("WARN_FOR", "5m", [_set(WARN_FOR=one) for one in ("1m", "5m", "10m", "20m")]),
        ("look each, s", "30", [Variant(f"{one:g}", Product(), one) for one in (10.0, 30.0, 60.0, 120.0)]),
    )


def _limits() -> Sequence[tuple[str, str, Sequence[Variant]]]:
    return (
        ("GPU limit, %", "5", [_made(f"{one:g}", _gpu(one)) for one in (1.0, 3.0, 5.0, 8.0, 15.0)]),
        ("CPU limit, % of a core", "5.5", [_made(f"{one:g}", _cpu(one / 100)) for one in (1.0, 3.0, 5.5, 10.0, 30.0)]),
        (
            "network limit, KB/s",
            "50",
            [_made(f"{one:g}", _network(one * 1e3)) for one in (2.0, 10.0, 30.0, 50.0, 150.0)],
        ),
    )


def _set(**values: str) -> Variant:
    (value,) = values.values()
    return Variant(value, Product(variables={f"IDLEWATCH_{name}": value for name, value in values.items()}))


def _made(value: str, factories: Factories) -> Variant:
    return Variant(value, Product(factories={**SIGNALS, **factories}))


def _gpu(limit_pct: float) -> Factories:
    return {"gpu": lambda _: GpuSignal(reader=GpuReader(), active_above_pct=limit_pct)}


def _cpu(limit_cores: float) -> Factories:
    return {
        "host": lambda _: HostSignal(cpu_limit_cores=limit_cores),
        "jobs": lambda _: JobsSignal(kernel=KERNEL, cpu_limit_cores=limit_cores),
    }


def _network(limit: float) -> Factories:
    return {"host": lambda _: HostSignal(network_limit_bytes_per_s=limit)}


def _cost(kinds: Sequence[str], seeds: Sequence[int], variant: Variant) -> Cost:
    return sum((_of_life(kind, FIRST + seed, variant) for kind in kinds for seed in seeds), Cost())


def _of_life(kind: str, seed: int, variant: Variant) -> Cost:
    made = life(kind, seed)
    stop: Callable[..., int | None] = partial(variant.product.stop, made)
    return cost(
        made, observed(made, variant.step_s), variant.step_s, lambda looks, start: stop(looks, start, variant.step_s)
    )


def lines(told: Sequence[Curve]) -> Iterator[str]:
    """A table in Markdown for each default; the default itself is bold."""
    for curve in told:
        yield f"| {curve.name} | {' | '.join(_named(point) for point in curve.points)} |"
        yield f"| --- |{' --- |' * len(curve.points)}"
        yield f"| $ a day | {' | '.join(f'{point.usd_a_day:.2f}' for point in curve.points)} |"
        idle = (f"{point.cost.idle_usd / point.cost.days:.2f}" for point in curve.points)
        yield f"| idle $ a day | {' | '.join(idle)} |"
        yield f"| stops in use | {' | '.join(str(point.in_use) for point in curve.points)} |"
        yield f"| undone within 1 h | {' | '.join(str(point.cost.undone) for point in curve.points)} |"
        yield ""


def _named(point: Point) -> str:
    return f"**{point.value}**" if point.is_default else point.value
