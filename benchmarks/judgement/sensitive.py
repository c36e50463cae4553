"""
Each default moved by itself, all else as it is: what idleness and restarts then cost, and the stops in use.

On seeds that no default was chosen on, and that nothing was run on before the curves of the document were drawn.
Limits of judges are no settings; they are given to the real judges here. Those of the CPU are looked at as often as the
daemon does by default: a tick counts for at most one core, so a burst of many cores counts for longer in longer ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from benchmarks.judgement.days import FAINT, FAINT_KINDS, KINDS, life
from benchmarks.judgement.measures import Cost, cost
from benchmarks.judgement.observed import observed
from benchmarks.judgement.product import Factories, Product
from benchmarks.judgement.table import STEP_S
from idlewatch.deciding import sight
from idlewatch.gpu import floor, judge
from idlewatch.settings import Settings
from idlewatch.signals import SIGNALS, transfers_judge
from idlewatch.signals.host import HostSignal
from idlewatch.signals.host_window import HostLimits
from idlewatch.signals.jobs import JobsSignal
from idlewatch.signals.making import KERNEL

FIRST = 90_000
"""Added to every seed: lives that no default and no setting of the table was chosen on."""
CPU_STEP_S = Settings().interval.total_seconds()
_HOST = HostLimits()


@dataclass(frozen=True, slots=True)
class Variant:
    """The product with one value of one default."""

    value: str
    product: Product
    step_s: float = STEP_S
    constants: Sequence[tuple[ModuleType, str, float]] = ()
    """Limits that can't be given to a judge: module, name and value."""


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
    return [*told, *faint_curves(3 * len(seeds))]


def faint_curves(lives: int) -> Iterator[Curve]:
    """Each limit on so many faint lives of its own kind."""
    for faint, name, default, told in _limits():
        place = list(FAINT_KINDS).index(faint)
        seeds = [seed for seed in range(lives * len(FAINT_KINDS)) if (FIRST + seed) % len(FAINT_KINDS) == place]
        yield _curve(name, default, told, (FAINT,), seeds)


def _curve(name: str, default: str, told: Sequence[Variant], kinds: Sequence[str], seeds: Sequence[int]) -> Curve:
    return Curve(name, [Point(v.value, _cost(kinds, seeds, v), v.value == default) for v in told])


def _variants() -> Sequence[tuple[str, str, Sequence[Variant]]]:
    return (
        ("IDLE_AFTER", "30m", [_set(IDLE_AFTER=one) for one in ("10m", "20m", "30m", "45m", "60m", "90m")]),
        ("CONNECTED_FOR", "3h", [_set(CONNECTED_FOR=one) for one in ("0", "1h", "2h", "3h", "4h", "6h")]),
        ("WARN_FOR", "5m", [_set(WARN_FOR=one) for one in ("1m", "5m", "10m", "20m")]),
        ("look each, s", "30", [Variant(f"{one:g}", Product(), one) for one in (10.0, 30.0, 60.0, 120.0)]),
    )


def _limits() -> Sequence[tuple[str, str, str, Sequence[Variant]]]:
    """Each with the kind of faint lives that it decides on."""
    return (
        (
            "GPU",
            "GPU limit, %",
            "5",
            [_set(GPU_LIMIT=f"{one:g}%") for one in (1.0, 3.0, 4.0, 5.0, 8.0, 15.0)],
        ),
        (
            "CPU",
            "CPU limit, % of a core",
            f"{_HOST.cpu_cores * 100:g}",
            [_made(f"{one:g}", _cpu(one / 100), CPU_STEP_S) for one in (2.0, 3.0, 4.0, 5.0, 5.5, 7.0, 10.0, 20.0)],
        ),
        (
            "CPU",
            "CPU window, min",
            f"{_HOST.window_s / 60:g}",
            [_made(f"{one:g}", _window(one * 60), CPU_STEP_S) for one in (5.0, 10.0, 20.0)],
        ),
        (
            "network",
            "network limit, KB/s",
            f"{_HOST.network_bytes_per_s / 1e3:g}",
            [_made(f"{one:g}", _network(one * 1e3)) for one in (2.0, 10.0, 30.0, 50.0, 150.0)],
        ),
        (
            "connection",
            "a program's connections, KB/s",
            f"{transfers_judge.FLOOR_BYTES_PER_S / 1e3:g}",
            [
                _constant(f"{one:g}", (transfers_judge, "FLOOR_BYTES_PER_S", one * 1e3))
                for one in (2.0, 10.0, 27.0, 50.0)
            ],
        ),
        (
            "memory",
            "memory limit, MiB in 10 min",
            f"{_HOST.memory_mib:g}",
            [_made(f"{one:g}", _memory(one)) for one in (64.0, 128.0, 256.0, 512.0, 1024.0)],
        ),
        (
            "GPU memory",
            "GPU memory limit, MiB in 10 min",
            f"{judge.GROWTH_MIB:g}",
            [_constant(f"{one:g}", (judge, "GROWTH_MIB", one)) for one in (50.0, 100.0, 200.0, 400.0, 800.0)],
        ),
        (
            "energy",
            "energy margin, W",
            f"{floor.MARGIN_W:g}",
            [_constant(f"{one:g}", *_margin(one)) for one in (1.0, 3.0, 6.0, 12.0, 25.0)],
        ),
        (
            "unread GPU",
            "coverage, %",
            f"{sight.LEAST_COVERAGE * 100:g}",
            [_constant(f"{one:g}", (sight, "LEAST_COVERAGE", one / 100)) for one in (30.0, 50.0, 80.0, 90.0, 97.0)],
        ),
    )


def _set(**values: str) -> Variant:
    (value,) = values.values()
    return Variant(
        value.removesuffix("%"), Product(variables={f"IDLEWATCH_{name}": value for name, value in values.items()})
    )


def _made(value: str, factories: Factories, step_s: float = STEP_S) -> Variant:
    return Variant(value, Product(factories={**SIGNALS, **factories}), step_s)


def _cpu(limit_cores: float) -> Factories:
    return {
        "host": lambda _: HostSignal(cpu_limit_cores=limit_cores),
        "jobs": lambda _: JobsSignal(kernel=KERNEL, cpu_limit_cores=limit_cores),
    }


def _window(window_s: float) -> Factories:
    return {"host": lambda _: HostSignal(window_s=window_s)}


def _constant(value: str, *constants: tuple[ModuleType, str, float]) -> Variant:
    return Variant(value, Product(), constants=constants)


def _margin(watts: float) -> Sequence[tuple[ModuleType, str, float]]:
    """Both parts of it: the share is that of a card of 120 W."""
    return (floor, "MARGIN_W", watts), (floor, "MARGIN_SHARE", watts / 120)


def _memory(limit_mib: float) -> Factories:
    return {"host": lambda _: HostSignal(memory_limit_mib=limit_mib)}


def _network(limit: float) -> Factories:
    return {"host": lambda _: HostSignal(network_limit_bytes_per_s=limit)}


def _cost(kinds: Sequence[str], seeds: Sequence[int], variant: Variant) -> Cost:
    with ExitStack() as changed:
        for module, name, value in variant.constants:
            changed.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
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
