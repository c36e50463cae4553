"""What the jobs of this Pod have used since the last look: CPU by process tree, progress of tools and agents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idlewatch.model import Json
from idlewatch.signals.adopted import real_descendants
from idlewatch.signals.jobs_gains import cpu_s, gains, own_reads, read_chars, write_chars
from idlewatch.signals.jobs_places import Places
from idlewatch.signals.jobs_programs import STARTING_S, Programs, Role
from idlewatch.signals.jobs_prompts import PromptsLook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from idlewatch.kernel import Key, Process, ProcessTable, Tables

_LEAST_CORES = 0.005
_LEAST_READ_BYTES_PER_S = 50e3
"""A tree that used and read less is left out of a reading, which counts as none: there may be hundreds."""
_LEAST_CHARS = 1024
_TREES_MAX, _TOOLS_MAX = 32, 32
"""In one reading, those that used most."""


@dataclass(slots=True)
class _Tree:
    """What one tree of processes has used since the last look."""

    cpu_s: float = 0.0
    read_bytes: float = 0.0
    most: tuple[float, float] = (0.0, 0.0)
    by: Process | None = None
    """The process that used most of it, or read most."""

    def add(self, process: Process, used_s: float, read_bytes: float) -> None:
        self.cpu_s += used_s
        self.read_bytes += read_bytes
        if self.by is None or (used_s, read_bytes) > self.most:
            self.by, self.most = process, (used_s, read_bytes)


@dataclass(slots=True)
class JobsLook:
    """Looks again and again; remembers the last look, and which tree each process was in when first seen."""

    prompts: PromptsLook = field(default_factory=PromptsLook)
    _before: ProcessTable | None = None
    _programs: Programs = field(default_factory=Programs)
    _tree_of: dict[Key, Key] = field(default_factory=dict)

    def facts(self, tables: Tables, asked: frozenset[Key] = frozenset()) -> dict[str, Json]:
        """Return the facts of a reading, as `jobs` documents them; `asked` ones and those below left out."""
        now, before = tables.processes, self._before
        places = Places(now, self._programs)
        self._assign(now, places)
        facts: dict[str, Json] = {"trees": [], "tools": [], "prompts": [], "unseen": None}
        left_out = _with_those_below(asked, now, places)
        facts["prompts"] = list[Json](self.prompts.facts(now, places, left_out))
        if before is not None:
            followed = [each for each in now if _is_followed(each, before, places) and each.pid not in left_out]
            facts["trees"] = list[Json](self._trees(before, now, places, left_out))
            facts["tools"] = list[Json](_tools(followed, before, now, places))
            facts["unseen"] = _unseen(followed, now)
        self._before = now
        self._programs.forget_ended(now)
        return facts

    def _assign(self, now: ProcessTable, places: Places) -> None:
        """Put each new process into the tree of those above it; it stays there when they end."""
        assigned: dict[Key, Key] = {}
        for process in now:
            tree = self._tree_of.get(process.key)
            if tree is None:
                root = places.root(process)
                tree = self._tree_of.get(root, root)
            assigned[process.key] = tree
        self._tree_of = assigned

    def _trees(
        self, before: ProcessTable, now: ProcessTable, places: Places, left_out: frozenset[int]
    ) -> list[dict[str, Json]]:
        trees: dict[Key, _Tree] = {}
        reads = own_reads(before, now, least_age_s=STARTING_S)
        for pid, used_s in gains(before, now, cpu_s).items():
            process, read = now.by_pid[pid], reads.get(pid, 0.0)
            if (used_s > 0 or read > 0) and pid not in left_out and (place := places.of(process)).counts:
                tree = trees.setdefault(self._tree_of[process.key], _Tree())
                tree.add(process, used_s, 0.0 if place.under_editor else read)
        span_s = now.at_s - before.at_s
        most = sorted(trees.items(), key=lambda item: (-item[1].cpu_s, -item[1].read_bytes))
        told = [(key, tree) for key, tree in most if _is_worth_telling(tree, span_s)][:_TREES_MAX]
        return [_entry(key, tree, places) for key, tree in told]


def _is_worth_telling(tree: _Tree, span_s: float) -> bool:
    return tree.cpu_s >= _LEAST_CORES * span_s or tree.read_bytes >= _LEAST_READ_BYTES_PER_S * span_s


def _entry(key: Key, tree: _Tree, places: Places) -> dict[str, Json]:
    used: dict[str, Json] = {
        "id": _id(key),
        "cpu_s": round(tree.cpu_s, 3),
        "read_bytes": int(tree.read_bytes),
        "agent": tree.by is not None and places.of(tree.by).is_agents,
    }
    return _named(tree.by, places) | used


def _tools(tools: Sequence[Process], before: ProcessTable, now: ProcessTable, places: Places) -> list[dict[str, Json]]:
    """Return what tools and agents have read, written and started since the last look, those that did anything."""
    if not tools:
        return []
    read, written = gains(before, now, read_chars), gains(before, now, write_chars)
    found = [_tool(each, before, now, places, (read, written)) for each in tools]
    moved = [each for each, used in found if used]
    return moved[:_TOOLS_MAX]


def _is_followed(process: Process, before: ProcessTable, places: Places) -> bool:
    """Whether it is a tool or an agent, no editor's own, that lives since the last look: what is shorter is a poll."""
    old = before.get(process.pid)
    if old is None or old.key != process.key or before.at_s - process.started_s < STARTING_S:
        return False
    if places.program(process).role not in {Role.TOOL, Role.AGENT}:
        return False
    place = places.of(process)
    return place.counts and not place.under_editor


def _tool(
    process: Process,
    before: ProcessTable,
    now: ProcessTable,
    places: Places,
    chars: tuple[Mapping[int, float], Mapping[int, float]],
) -> tuple[dict[str, Json], bool]:
    read, written = (int(each.get(process.pid, 0)) for each in chars)
    children = (now.by_pid[pid] for pid in now.children(process.pid))
    started = sum(1 for child in children if not _was_there(child, before))
    facts: dict[str, Json] = {
        "id": _id(process.key),
        "agent": places.program(process).role is Role.AGENT,
        "read_bytes": read,
        "write_bytes": written,
        "children": started,
    }
    return _named(process, places) | facts, bool(started) or read + written >= _LEAST_CHARS


def _with_those_below(keys: frozenset[Key], now: ProcessTable, places: Places) -> frozenset[int]:
    tops = [process for pid, _ in keys if (process := now.get(pid)) is not None]
    return frozenset(pid for pid, _ in keys).union(*(real_descendants(top, now, places.program) for top in tops))


def _was_there(process: Process, before: ProcessTable) -> bool:
    old = before.get(process.pid)
    return old is not None and old.key == process.key


def _named(process: Process | None, places: Places) -> dict[str, Json]:
    if process is None:
        return {}
    return {"where": places.of(process).where, "name": places.program(process).name, "pid": process.pid}


def _id(key: Key) -> str:
    return f"{key[0]}-{key[1]}"


def _unseen(followed: Sequence[Process], now: ProcessTable) -> str | None:
    if now.hides:
        return "other users' processes are hidden here"
    denied = [each for each in followed if each.io is None and each.state != "Z"]
    return f"what {denied[0].comm} (pid {denied[0].pid}) reads and writes is not shown here" if denied else None
