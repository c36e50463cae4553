"""
Which job keeps the Pod: pure, from readings of the jobs signal in their order.

CPU of each tree is judged as the host signal judges the container's: the mean over ten minutes, each look cut at one
core, above the tree's own median as far as that may pass for a hum. So is what it reads, against the host's limit for
disks: files of a network volume (FUSE, NFS) show in no block device, and checksums at 20 MB/s take 1.2 % of a core. Of
monitors the dearest reads 0.4 MB of /proc a second beside 180 processes. Batch tools and agents that wait on a network
count by progress: what they have read and written, and children that they started.

Why two limits for characters: a progress bar that is drawn for ever writes some 100 bytes ten times a second, 0.6 MB
in ten minutes, and reads nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from idlewatch.durations import format_duration
from idlewatch.model import Activity, Finding
from idlewatch.signals.host_window import HostLimits, Tick, Window
from idlewatch.signals.proofs import TOLD_MAX, Facts, Lonely, Proof, cores, minutes, number, objects, proven, size

READ_BYTES = 1 << 20
"""What a tool or an agent reads in the window that is progress: of 1 MiB in ten minutes `JUDGING` says so of files."""
WRITE_BYTES = 4 << 20
TOLD_AFTER_S = 15 * 60.0
"""A job that waits for a person for so long is a notice."""
STARTED_IN_LOOKS = 3
"""Looks within the window in which a tool or an agent had started a child."""


@dataclass(slots=True)
class _Tree:
    """One tree's CPU."""

    window: Window
    label: str
    newest: Tick


@dataclass(slots=True)
class _Tool:
    """One tool's or agent's looks within the window: instant, characters read and written, children started."""

    label: str
    looks: deque[tuple[float, float, float, float]] = field(default_factory=deque)


class JobsJudge:
    """Remembers each tree's and each tool's last ten minutes."""

    def __init__(self, *, limits: HostLimits, alone_s: float, connected_for_s: float) -> None:
        self._limits, self._cap_s = limits, connected_for_s
        self._lonely = Lonely("job", alone_s)
        self._spans: deque[tuple[float, float]] = deque()
        """Instant and length of each look."""
        self._trees: dict[str, _Tree] = {}
        self._tools: dict[str, _Tool] = {}
        self._agents: set[str] = set()
        """IDs of those trees and tools that are AI coding agents' by what they last did."""

    def finding(self, facts: Facts, at_s: float, covers_s: float) -> Finding:
        """Return the verdict on the facts of one reading. Raises KeyError, TypeError or ValueError on garbage."""
        trees = {str(one["id"]): (_label(one), _tick(one, at_s, covers_s)) for one in objects(facts["trees"])}
        tools = {str(one["id"]): (_label(one), self._look(one, at_s, covers_s)) for one in objects(facts["tools"])}
        unseen = facts["unseen"]
        self._take_in(trees, tools, at_s, covers_s)
        self._know_agents([*objects(facts["trees"]), *objects(facts["tools"])])
        used = [*self._cpu_in_use(), *self._reading(), *self._progress()]
        busy = [] if used else list(self._busy_now())
        waiting = [one for one in objects(facts.get("prompts", [])) if number(one["waits_s"]) < self._cap_s]
        return replace(
            self._worded(used, busy, waiting, None if unseen is None else str(unseen)),
            seen_from_s=at_s - covers_s,
            seen_to_s=at_s,
            notice=self._lonely.notice(self._only(used), at_s) or (None if used else self._asking(waiting)),
        )

    def _take_in(
        self,
        trees: Mapping[str, tuple[str, Tick]],
        tools: Mapping[str, tuple[str, tuple[float, float, float, float]]],
        at_s: float,
        covers_s: float,
    ) -> None:
        oldest_s = at_s - self._limits.window_s
        for id_, (label, _) in trees.items():
            if id_ not in self._trees:
                self._trees[id_] = self._idle_so_far(label)
        for id_, tree in self._trees.items():
            label, tree.newest = trees.get(id_, (tree.label, _idle_tick(at_s, covers_s)))
            tree.window.add(tree.newest)
            tree.label = label if self._stands_out(tree.newest) else tree.label
        self._spans.append((at_s, covers_s))
        while self._spans[0][0] <= oldest_s:
            self._spans.popleft()
        for id_, (label, look) in tools.items():
            tool = self._tools.setdefault(id_, _Tool(label))
            tool.looks.append(look)
        self._forget(oldest_s)

    def _look(self, one: Facts, at_s: float, covers_s: float) -> tuple[float, float, float, float]:
        """What a tool did; of a look that is longer than the window (the daemon was stopped) its share in it."""
        share = min(1.0, self._limits.window_s / covers_s)
        return at_s, number(one["read_bytes"]) * share, number(one["write_bytes"]) * share, number(one["children"])

    def _idle_so_far(self, label: str) -> _Tree:
        """A tree that had nothing to tell before used nothing: its first busy look must not fill a window alone."""
        window = Window(self._limits)
        for at_s, covers_s in self._spans:
            window.add(_idle_tick(at_s, covers_s))
        return _Tree(window, label, _idle_tick(0.0, 1.0))

    def _stands_out(self, tick: Tick) -> bool:
        read = tick.disk_bytes_per_s or 0.0
        return tick.cpu_cores > self._limits.cpu_cores or read > self._limits.disk_bytes_per_s

    def _forget(self, oldest_s: float) -> None:
        for tool in self._tools.values():
            while tool.looks and tool.looks[0][0] <= oldest_s:
                tool.looks.popleft()
        self._tools = {id_: tool for id_, tool in self._tools.items() if tool.looks}
        self._trees = {id_: tree for id_, tree in self._trees.items() if not tree.window.is_empty()}

    def _know_agents(self, told: Iterable[Facts]) -> None:
        for one in told:
            (self._agents.add if one.get("agent") else self._agents.discard)(str(one["id"]))
        self._agents &= self._trees.keys() | self._tools.keys()

    # ---------------------------------------------------------------- proofs

    def _cpu_in_use(self) -> Iterator[Proof]:
        for id_, tree in sorted(self._trees.items(), key=lambda item: -item[1].window.mean_cores()):
            newest_s = tree.window.cpu().newest_s
            if newest_s is not None:
                yield Proof(id_, self._of_cpu(tree), newest_s, "jobs,host")

    def _reading(self) -> Iterator[Proof]:
        for id_, tree in sorted(self._trees.items(), key=lambda item: -item[1].window.disk().value):
            read = tree.window.disk()
            if read.newest_s is not None:
                text = f"{tree.label} read {size(read.value)} a second for {minutes(tree.window.counted_s)}"
                yield Proof(id_, text, read.newest_s, "jobs,host")

    def _busy_now(self) -> Iterator[str]:
        for tree in self._trees.values():
            if tree.newest.cpu_cores > self._limits.cpu_now_cores:
                yield f"busy now: {tree.label} {cores(tree.newest.cpu_cores)} of a core"

    def _progress(self) -> Iterator[Proof]:
        for id_, tool in self._tools.items():
            at_s, read, written, started = (list(each) for each in zip(*tool.looks, strict=True))
            looks = sum(1 for each in started if each)
            newest_s = max((at for at, *did in tool.looks if any(did)), default=0.0)
            if sum(read) >= READ_BYTES:
                yield Proof(id_, f"{tool.label} read {size(sum(read))} in {self._span()}", newest_s, "jobs")
            elif sum(written) >= WRITE_BYTES:
                yield Proof(id_, f"{tool.label} wrote {size(sum(written))} in {self._span()}", newest_s, "jobs")
            elif looks >= STARTED_IN_LOOKS:
                newest_s = max(at for at, each in zip(at_s, started, strict=True) if each)
                yield Proof(
                    id_, f"{tool.label} started {sum(started):.0f} commands in {self._span()}", newest_s, "jobs"
                )

    def _of_cpu(self, tree: _Tree) -> str:
        return f"{tree.label} {cores(tree.window.mean_cores())} of a core for {minutes(tree.window.counted_s)}"

    def _span(self) -> str:
        return minutes(max(self._limits.least_s, sum(covers_s for _, covers_s in self._spans)))

    # ---------------------------------------------------------------- words

    def _worded(self, used: list[Proof], busy: list[str], waiting: list[Facts], unseen: str | None) -> Finding:
        if used:
            return proven("jobs", used)
        barring = [*busy, *map(self._waits, waiting)]
        reason = ", ".join(barring[:TOLD_MAX]) or self._quiet()
        if unseen is not None:
            reason = f"{reason}; {unseen}, the host signal sees the container's CPU and disk"
        return Finding(signal="jobs", activity=Activity.QUIET, reason=reason, bars=bool(barring), pauses=bool(busy))

    def _waits(self, one: Facts) -> str:
        for_s, cap = format_duration(number(one["waits_s"])), format_duration(self._cap_s)
        return f"{_label(one)} waits for input, for {for_s} < {cap}"

    def _asking(self, waiting: Iterable[Facts]) -> str | None:
        told = [_label(one) for one in waiting if number(one["waits_s"]) >= TOLD_AFTER_S]
        kept = f"keeps this Pod up for {format_duration(self._cap_s)} at most"
        return f"{told[0]} waits for input at its terminal, which {kept}" if told else None

    def _quiet(self) -> str:
        most = max(self._trees.values(), key=lambda tree: tree.window.mean_cores(), default=None)
        return "no job uses CPU" if most is None else f"no job above its limit; most: {self._of_cpu(most)}"

    def _only(self, used: list[Proof]) -> Proof | None:
        """The one job that there is; nobody forgot an agent that works."""
        ids = {proof.id for proof in used}
        return used[0] if len(ids) == 1 and not ids & self._agents else None


def _label(one: Facts) -> str:
    return f"{one['where']}: {one['name']} (pid {one['pid']})"


def _tick(one: Facts, at_s: float, span_s: float) -> Tick:
    """What one tree did; readings of older versions do not tell what it read."""
    return replace(
        _idle_tick(at_s, span_s),
        cpu_cores=number(one["cpu_s"]) / span_s,
        disk_bytes_per_s=number(one.get("read_bytes", 0)) / span_s,
    )


def _idle_tick(at_s: float, span_s: float) -> Tick:
    return Tick(at_s=at_s, span_s=span_s, cpu_cores=0.0, network_bytes_per_s=0.0, disk_bytes_per_s=0.0, memory_mib=None)
