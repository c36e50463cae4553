"""
The host signal: CPU, network, disk and memory of this container, as work that no person and no GPU shows.

Tokenizing, compiling, downloading and unpacking leave the GPU at 0 for an hour; here they are seen. Never the host's
load: a Pod shares its machine. What idlewatch itself causes is taken off before anything is judged. Once a minute a
reading also has `busiest`, who used most CPU: name, pid, cpu_s, span_s; it proves nothing, and is for a notice.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from idlewatch.errors import SignalError
from idlewatch.model import Activity, Finding, Json, Reading
from idlewatch.signals import host_cgroup, host_processes
from idlewatch.signals.host_alone import Busiest, HostAlone
from idlewatch.signals.host_window import Figures, HostLimits, Tick, Window
from idlewatch.signals.unread import covers_nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from idlewatch.signals.host_processes import Key, Usage

MIB = 1024.0 * 1024.0

WHOLE_EVERY_S = 60.0
"""How often every process is read: what took the PID of one that had ended is then known for what it is."""
_WRITEBACK_S = 60.0
"""How long after a write its bytes may reach the disk: the kernel's 30 s of dirty_expire_centisecs, and the writing."""

_DEFAULTS = HostLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counters:
    """Everything that was counted by one instant."""

    at_s: float
    cpu_s: float | None
    """Of the cgroup; None where only the processes can be summed."""
    network: Mapping[str, int]
    disk: tuple[Mapping[str, int], Mapping[str, int]] | None
    """Bytes read and written, by device."""
    memory_bytes: int | None
    usage: Usage
    moved: Mapping[Key, int] = field(default_factory=dict)
    """Bytes that idlewatch's other processes have moved to and from other machines."""


class HostSignal:
    """
    What this container's CPU, network, disk and memory do.

    Without a cgroup of its own the CPU time of all visible processes is summed, and disk and memory stay unseen.
    """

    name = "host"
    refines = False

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        sys: Path = Path("/sys"),
        own_pid: Callable[[], int] = os.getpid,
        window_s: float = _DEFAULTS.window_s,
        cpu_limit_cores: float = _DEFAULTS.cpu_cores,
        network_limit_bytes_per_s: float = _DEFAULTS.network_bytes_per_s,
        disk_limit_bytes_per_s: float = _DEFAULTS.disk_bytes_per_s,
        memory_limit_mib: float = _DEFAULTS.memory_mib,
    ) -> None:
        self._proc, self._sys, self._own_pid = proc, sys, own_pid
        self._limits = HostLimits(
            window_s=window_s,
            cpu_cores=cpu_limit_cores,
            network_bytes_per_s=network_limit_bytes_per_s,
            disk_bytes_per_s=disk_limit_bytes_per_s,
            memory_mib=memory_limit_mib,
        )
        self._window = Window(self._limits)
        self._files: host_cgroup.CgroupFiles | None = None
        self._before: _Counters | None = None
        self._newest: Reading | None = None
        self._late_writes = LateWrites()
        self._whole_s = float("-inf")
        self._busiest, self._alone = Busiest(), HostAlone()
        self.spinning: Callable[[], Iterable[Key]] = tuple
        """Tells the processes whose CPU is no work: servers that spin while their own counters stand still."""
        self.registered: Callable[[], Mapping[Key, int]] = dict
        """Tells idlewatch's processes outside of the daemon's tree, with the bytes that each has moved."""

    def read(self, now_s: float) -> Reading:
        """
        Return what was used since the last reading; the first one covers nothing.

        Raises SignalError where CPU, network or a counter that this cgroup has can't be read, and where one has gone
        backwards: the next reading then starts afresh.
        """
        if self._newest is not None and now_s <= self._newest.at_s:
            return self._newest
        spinning = frozenset(self.spinning())
        now, before = self._count(now_s, spinning), self._before
        self._before = now
        covers_s, facts = 0.0, dict[str, Json](cpus=host_processes.allowed_cpus(self._proc))
        if before is not None and (before.cpu_s is None) == (now.cpu_s is None):
            covers_s = now_s - before.at_s
            facts |= self._facts(before, now, spinning)
        if self._whole_s == now_s:
            facts |= self._busiest.facts(now_s, now.usage, spinning)
        self._newest = Reading(signal=self.name, at_s=now_s, covers_s=covers_s, facts=facts)
        return self._newest

    def _count(self, now_s: float, spinning: frozenset[Key]) -> _Counters:
        # Ours first: what falls between the two looks then counts as use, never the other way round.
        registered = self.registered()
        usage = self._usage(now_s, spinning, registered)
        files = self._located()
        return _Counters(
            at_s=now_s,
            cpu_s=None if files is None else self._cpu_used_s(files),
            network=_network_bytes(self._proc / "net/dev"),
            disk=None if files is None or files.disk is None else host_cgroup.disk_bytes(files.disk),
            memory_bytes=None if files is None or files.memory is None else host_cgroup.memory_bytes(files.memory),
            usage=usage,
            moved=registered,
        )

    def _usage(self, now_s: float, spinning: frozenset[Key], registered: Iterable[Key]) -> Usage:
        own_pid, before = self._own_pid(), None if self._before is None else self._before.usage
        # PID 1 adopts whose parent has ended, and its own totals then hold theirs: each of them must be known.
        whole = self._files is None or own_pid == 1 or now_s - self._whole_s >= WHOLE_EVERY_S
        self._whole_s = now_s if whole else self._whole_s
        return host_processes.usage(self._proc, own_pid, before, wanted=spinning, registered=registered, whole=whole)

    def _located(self) -> host_cgroup.CgroupFiles | None:
        if self._files is None:
            try:
                self._files = host_cgroup.locate(self._proc, self._sys)
            except OSError as error:
                raise SignalError(f"the cgroup of this container cannot be found: {error}") from error
        return self._files

    def _cpu_used_s(self, files: host_cgroup.CgroupFiles) -> float:
        try:
            return host_cgroup.cpu_used_s(files.cpu)
        except SignalError:
            self._files, self._before = None, None
            raise

    def _facts(self, before: _Counters, now: _Counters, spinning: frozenset[Key]) -> dict[str, Json]:
        own_s = host_processes.own_cpu_s(before.usage, now.usage)
        own_s += host_processes.others_cpu_s(before.usage, now.usage)
        if before.cpu_s is None or now.cpu_s is None:
            used_s = host_processes.all_cpu_s(before.usage, now.usage)
        else:
            used_s = _forward(now.cpu_s - before.cpu_s, "CPU time")
        spun_s = host_processes.cpu_s_of(spinning, before.usage, now.usage)
        facts: dict[str, Json] = {
            "cpu_busy_s": max(0.0, used_s - own_s - spun_s),
            "own_cpu_s": own_s,
            "spun_cpu_s": spun_s,
            "span_s": now.at_s - before.at_s,
            "net_bytes": max(0, _moved(before.network, now.network, "network") - _own_moved(before, now)),
        }
        if before.disk is not None and now.disk is not None:
            facts["disk_bytes"] = self._disk_moved(before, now)
        if before.memory_bytes is not None and now.memory_bytes is not None:
            own_growth = now.usage.memory_bytes - before.usage.memory_bytes
            own_growth += host_processes.others_growth(before.usage, now.usage)
            facts["mem_growth_mib"] = (now.memory_bytes - before.memory_bytes - own_growth) / MIB
        return facts

    def _disk_moved(self, before: _Counters, now: _Counters) -> int:
        """Return the bytes that others read and wrote."""
        if before.disk is None or now.disk is None:
            return 0
        own_reads, own_writes = host_processes.own_io_bytes(before.usage, now.usage)
        reads = _moved(before.disk[0], now.disk[0], "disk reads")
        writes = _moved(before.disk[1], now.disk[1], "disk writes")
        return max(0, reads - own_reads) + self._late_writes.others(now.at_s, own=own_writes, written=writes)

    def judge(self, reading: Reading) -> Finding:
        """Return the verdict on the window that ends with `reading`."""
        nothing = covers_nothing(reading)
        if nothing:
            return nothing
        try:
            tick = _tick(reading)
            self._alone.take_in(reading.facts)
        except (KeyError, TypeError, ValueError) as error:
            return Finding(signal=self.name, activity=Activity.UNKNOWN, reason=f"a reading without its facts: {error}")
        self._window.add(tick)
        found = self._verdict(reading, tick)
        return replace(found, notice=self._alone.notice(found, reading.at_s))

    def _verdict(self, reading: Reading, tick: Tick) -> Finding:
        figures = self._window.figures()
        used = _in_use(figures)
        busy_now = not used and tick.cpu_cores > self._limits.cpu_now_cores
        reason = ", ".join(used) if used else _quiet(figures, tick)
        if busy_now:
            now, limit = _cores(tick.cpu_cores), _cores(self._limits.cpu_now_cores)
            reason = f"{reason}; busy now, so the idle clock waits: CPU {now} of a core > {limit}"
        return Finding(
            signal=self.name,
            activity=Activity.ACTIVE if used else Activity.QUIET,
            reason=reason,
            seen_from_s=reading.at_s - reading.covers_s,
            seen_to_s=reading.at_s,
            evidence_s=max(used.values()) if used else None,
            bars=busy_now,
            pauses=busy_now,
        )

    def close(self) -> None:
        """Nothing was started."""


class LateWrites:
    """Own writes that have not reached the disk yet: the kernel writes back later than it counts the writing."""

    def __init__(self) -> None:
        self._owed: deque[tuple[float, int]] = deque()

    def others(self, now_s: float, *, own: int, written: int) -> int:
        """Return how many of the bytes that were `written` to disks are not ours."""
        self._owed.append((now_s, own))
        while self._owed and (written > 0 or self._owed[0][0] < now_s - _WRITEBACK_S):
            at_s, owed = self._owed.popleft()
            if at_s < now_s - _WRITEBACK_S:
                continue
            paid = min(owed, written)
            written -= paid
            if owed > paid:
                self._owed.appendleft((at_s, owed - paid))
        return written


def _tick(reading: Reading) -> Tick:
    """Return a reading as rates. Raises KeyError, TypeError or ValueError where a fact is missing or no number."""
    facts = reading.facts
    disk, memory = facts.get("disk_bytes"), facts.get("mem_growth_mib")
    return Tick(
        at_s=reading.at_s,
        span_s=reading.covers_s,
        cpu_cores=_number(facts["cpu_busy_s"]) / reading.covers_s,
        network_bytes_per_s=_number(facts["net_bytes"]) / reading.covers_s,
        disk_bytes_per_s=None if disk is None else _number(disk) / reading.covers_s,
        memory_mib=None if memory is None else _number(memory),
    )


def _in_use(figures: Figures) -> dict[str, float]:
    """Return each clause that proves use, with its newest evidence."""
    cpu, network, disk, memory = figures.cpu, figures.network, figures.disk, figures.memory
    told = {
        f"CPU {_cores(figures.mean_cores)} of a core > {_cores(cpu.limit)}": cpu.newest_s,
        f"network {_rate(network.value)} > {_rate(network.limit)}": network.newest_s,
        f"disk {_rate(disk.value)} > {_rate(disk.limit)}": disk.newest_s,
        f"memory grew {memory.value:.0f} MiB > {memory.limit:.0f} MiB": memory.newest_s,
    }
    over = _minutes(figures.over_s)
    return {f"{clause} over {over}": newest_s for clause, newest_s in told.items() if newest_s is not None}


def _quiet(figures: Figures, tick: Tick) -> str:
    disk = "not counted here" if tick.disk_bytes_per_s is None else _rate(figures.disk.value)
    memory = "" if tick.memory_mib is not None else ", memory not counted here"
    return f"CPU {_cores(figures.cpu.value)} of a core, network {_rate(figures.network.value)}, disk {disk}{memory}"


def _number(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _network_bytes(file: Path) -> dict[str, int]:
    """Return received and sent bytes of each interface but loopback. Raises SignalError where it can't be read.

    Source: proc_pid_net(5): the first and the ninth figure after the name.
    """
    try:
        lines = file.read_text(errors="replace").splitlines()[2:]
        named = (line.rpartition(":") for line in lines)
        figures = {name.strip(): values.split() for name, _, values in named}
        return {name: int(values[0]) + int(values[8]) for name, values in figures.items() if name != "lo"}
    except (OSError, ValueError, IndexError) as error:
        raise SignalError(f"{file} cannot be read: {error}") from error


def _moved(before: Mapping[str, int], now: Mapping[str, int], what: str) -> int:
    """Return the sum of what each counter has gained; a new one counts whole, one that is gone does not."""
    return sum(int(_forward(value - before.get(name, 0), f"{what} of {name}")) for name, value in now.items())


def _own_moved(before: _Counters, now: _Counters) -> int:
    """Return the bytes that idlewatch's other processes say they have moved since; of each that was there before."""
    return sum(max(0, moved - before.moved[key]) for key, moved in now.moved.items() if key in before.moved)


def _forward(gained: float, what: str) -> float:
    if gained < 0:
        raise SignalError(f"the counter of {what} went backwards")
    return gained


def _cores(cores: float) -> str:
    percent = cores * 100
    return f"{percent:.0f} %" if percent >= 100 else f"{percent:.1f} %"


def _rate(bytes_per_s: float) -> str:
    if bytes_per_s >= 1e6:
        return f"{bytes_per_s / 1e6:.1f} MB/s"
    return f"{bytes_per_s / 1e3:.1f} KB/s" if bytes_per_s >= 100 else f"{bytes_per_s:.0f} B/s"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"
