"""The table: every rule on the same lives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks.judgement.days import KINDS, life
from benchmarks.judgement.doing import PodLife
from benchmarks.judgement.measures import Cost, all_knowing, cost, optimum_usd
from benchmarks.judgement.observed import Seen, observed
from benchmarks.judgement.product import Product
from benchmarks.judgement.rules import RULES

STEP_S = 30.0
ALL_KNOWING_S = 35 * 60.0
"""As long as the product's own defaults take: 30 min and 5 min of warning."""
PRODUCT = "idlewatch"
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "idlewatch, connected for 1 h": {"IDLEWATCH_CONNECTED_FOR": "1h"},
    "idlewatch, 45 min, connected for 1 h": {"IDLEWATCH_IDLE_AFTER": "45m", "IDLEWATCH_CONNECTED_FOR": "1h"},
}
"""Chosen by `sensitive.py`, on other seeds than those of the table."""
BOUND = "all-knowing, 35 min"
HINDSIGHT = "hindsight"

Deciding = Callable[[PodLife, Sequence[Seen], int], int | None]


@dataclass(slots=True)
class Row:
    """What one rule cost, by kind of life."""

    name: str
    source: str = ""
    by_kind: dict[str, Cost] = field(default_factory=dict)

    @property
    def total(self) -> Cost:
        """On all lives."""
        return sum(self.by_kind.values(), Cost())

    def take(self, kind: str, one: Cost) -> None:
        """Add one life."""
        self.by_kind[kind] = self.by_kind.get(kind, Cost()) + one


@dataclass(slots=True)
class Table:
    """All of it."""

    rows: list[Row]
    optimum_usd: dict[str, float]
    """By kind."""

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


def measured(seeds: Sequence[int], kinds: Sequence[str] = tuple(KINDS)) -> Table:
    """Every rule on one life for each kind and seed."""
    told = list(_deciding())
    table = Table([Row(name, source) for name, source, _ in told], dict.fromkeys(kinds, 0.0))
    for kind in kinds:
        for seed in seeds:
            made = life(kind, seed)
            looks = observed(made, STEP_S)
            table.optimum_usd[kind] += optimum_usd(made)
            for row, (_, _, decide) in zip(table.rows, told, strict=True):
                row.take(kind, cost(made, looks, STEP_S, partial(decide, made)))
    return table


def _deciding() -> Iterator[tuple[str, str, Deciding]]:
    for rule in RULES:
        yield rule.name, rule.source, _of_rule(rule.stop)
    yield PRODUCT, "its defaults, real judges and policy", product_decides(Product())
    for name, variables in VARIANTS.items():
        yield name, "other settings", product_decides(Product(variables=variables))
    yield BOUND, "is told the truth at each look", _of_rule(_knowing)


def product_decides(product: Product) -> Deciding:
    """The product as a rule."""
    return lambda made, looks, start: product.stop(made, looks, start, STEP_S)


def _of_rule(stop: Callable[[Sequence[Seen], int, float], int | None]) -> Deciding:
    return lambda _, looks, start: stop(looks, start, STEP_S)


def _knowing(looks: Sequence[Seen], start: int, step_s: float) -> int | None:
    return all_knowing(ALL_KNOWING_S, step_s)(looks, start)


# ---------------------------------------------------------------- words


def lines(table: Table) -> Iterator[str]:
    """The table in Markdown, by what idleness and restarts cost together."""
    best = sum(table.optimum_usd.values())
    yield "| rule | idle $ a day | stops a day | in use | undone within 1 h | $ a day, restarts too | times hindsight |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in sorted(table.rows, key=lambda row: row.total.usd):
        yield _line(row, best)
    days = table.rows[0].total.days
    yield f"| {HINDSIGHT} | | | 0 | | {best / days:.2f} | 1.00 |"


def _line(row: Row, best_usd: float) -> str:
    total = row.total
    name = f"**{row.name}**" if row.name == PRODUCT else row.name
    return (
        f"| {name} | {total.idle_usd / total.days:.2f} | {total.stops / total.days:.2f} | {total.in_use} | "
        f"{total.undone} | {total.usd / total.days:.2f} | {total.usd / best_usd:.2f} |"
    )


def kind_lines(table: Table) -> Iterator[str]:
    """Dollars a day by kind of life, and stops in use where there were any."""
    kinds = list(table.optimum_usd)
    yield f"| rule | {' | '.join(kinds)} |"
    yield f"| --- |{' --- |' * len(kinds)}"
    for row in sorted(table.rows, key=lambda row: row.total.usd):
        yield f"| {row.name} | {' | '.join(_cell(row.by_kind[kind]) for kind in kinds)} |"
    days = {kind: table.rows[0].by_kind[kind].days for kind in kinds}
    yield f"| {HINDSIGHT} | {' | '.join(f'{table.optimum_usd[kind] / days[kind]:.1f}' for kind in kinds)} |"


def _cell(told: Cost) -> str:
    usd = f"{told.usd / told.days:.1f}"
    return f"{usd} ({told.in_use} in use)" if told.in_use else usd
