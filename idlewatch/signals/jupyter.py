"""
The Jupyter signal: what runs in the kernels of this Pod's Jupyter servers (Lab, Notebook, Server).

Servers are found by their processes, and only the port that such a process listens on is ever asked. What a server
says is set against what its kernels' processes did (`jupyter_judge`). Terminals count for nothing here: what runs or
is typed in them is seen by other signals. A living server that refuses or does not answer is UNKNOWN; one whose
process is gone is no server any more, whatever files it left.

Facts of a reading: `servers`, a list of

    name, at_s        who, and when it was asked (CLOCK_BOOTTIME seconds)
    error, absent     why it told nothing; None where it did
    terminals         how many; None: not known
    saved_chars       what the server's own process wrote since the last look; None: not known
    clients           open connections to its port, ours left out; None: not known
    kernels           list: id, kernel (its kind), path (its notebook, None: none), state (the server's word),
                      connections, age_s (of its last activity, never more than the container's), moved (whether that
                      is another one than at the last look), local (whether it has a process here), span_s, cpu_s and
                      written_chars (what its processes used over that span; None: nothing to compare with)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from idlewatch.errors import SignalError
from idlewatch.model import Activity, Finding, Json, Reading, Surroundings
from idlewatch.servers.asking import Asker
from idlewatch.signals.jupyter_ask import Conversation, SaidKernel, Told
from idlewatch.signals.jupyter_find import JupyterFinder, JupyterServer, Unasked
from idlewatch.signals.jupyter_judge import JupyterJudge
from idlewatch.signals.jupyter_kernels import KernelProcesses, ServerWrites, Used
from idlewatch.signals.servers_clients import clients_of
from idlewatch.signals.unread import unread

if TYPE_CHECKING:
    from idlewatch.kernel import Key, Tables


class Kernel(Protocol):
    """Where processes and sockets come from: `kernel.KernelTables`, or a test."""

    def at(self, now_s: float) -> Tables:
        """Processes and sockets, some seconds old at most."""
        ...


class JupyterSignal:
    """Kernels of every Jupyter server of this Pod."""

    name = "jupyter"
    refines = True

    def __init__(self, pod: Surroundings, *, kernel: Kernel, wall_s: Callable[[], float] = time.time) -> None:
        """`wall_s` tells the wall clock by which servers write their stamps, seconds since 1970."""
        self._pod, self._kernel, self._wall_s = pod, kernel, wall_s
        self._finder, self._asker = JupyterFinder(pod.variables), Asker()
        self._servers: dict[Key, _Watched] = {}
        self._looked_s = float("-inf")
        self._newest: Reading | None = None
        self._judge = JupyterJudge(connected_for_s=pod.connected_for_s)
        self._judged: tuple[Reading, Finding] | None = None

    def read(self, now_s: float) -> Reading:
        """
        Carry the questions on; return what is known, the last reading again where nothing is new.

        Raises SignalError where processes or sockets can't be read.
        """
        tables = self._kernel.at(now_s)
        changed = self._look(tables, now_s)
        for watched in self._servers.values():
            told = watched.carry_on(self._asker, now_s)
            if told is not None:
                changed = True
                watched.learn(told, tables, lambda stamp: self._age_s(stamp, now_s))
                if told.refused:
                    self._finder.reread(watched.server.key)
        if changed or self._newest is None:
            self._newest = self._reading(tables, now_s)
        return self._newest

    def _look(self, tables: Tables, now_s: float) -> bool:
        """See which servers there are, where that may have changed; whether it has."""
        if tables.at_s <= self._looked_s and not self._finder.waits:
            return False
        self._looked_s = tables.at_s
        before, found = self._servers, {each.key: each for each in self._finder.look(tables)}
        self._servers = {
            key: before[key] if key in before and before[key].server == server else _Watched(server, now_s)
            for key, server in found.items()
        }
        gone = [watched for key, watched in before.items() if self._servers.get(key) is not watched]
        for watched in gone:
            watched.close(self._asker)
        return bool(gone) or self._servers.keys() != before.keys()

    def _reading(self, tables: Tables, now_s: float) -> Reading:
        if not self._servers:
            if tables.processes.hides:
                raise SignalError("/proc hides other users' processes: nothing tells whether Jupyter runs here")
            return Reading(signal=self.name, at_s=now_s, absent="no Jupyter server process")
        told = [watched.facts for watched in self._servers.values()]
        absent = [each["absent"] for each in told]
        if all(absent):
            return Reading(signal=self.name, at_s=now_s, absent=f"{told[0]['name']} {absent[0]}")
        at_s = max(each["at_s"] for each in told)
        before_s = self._newest.at_s if self._newest is not None else at_s
        covers_s = max(0.0, at_s - before_s)
        return Reading(signal=self.name, at_s=at_s, covers_s=covers_s, facts={"servers": list(told)})

    def _age_s(self, stamp: datetime | None, now_s: float) -> float:
        """How old a server's stamp is: never from the future, never older than this container."""
        oldest_s = max(0.0, now_s - self._pod.started_s)
        if stamp is None:
            return oldest_s
        return min(oldest_s, max(0.0, self._wall_s() - stamp.timestamp()))

    def judge(self, reading: Reading) -> Finding:
        """Return whether anything runs in a kernel, or a person's tab or a doubt keeps the Pod up for a while."""
        nothing = unread(reading)
        if nothing:
            return nothing
        if self._judged is None or self._judged[0] != reading:
            self._judged = reading, self._finding(reading)
        return self._judged[1]

    def _finding(self, reading: Reading) -> Finding:
        servers: Any = reading.facts.get("servers")
        try:
            return self._judge.finding(servers, reading.at_s, reading.covers_s)
        except (KeyError, TypeError, AttributeError) as error:
            reason = f"facts that make no sense: {type(error).__name__} {error}"
            return Finding(signal=self.name, activity=Activity.UNKNOWN, reason=reason)

    def close(self) -> None:
        """End every question."""
        self._asker.close()


class _Watched:
    """One server, its newest facts, and what they are compared with."""

    def __init__(self, server: JupyterServer | Unasked, now_s: float) -> None:
        self.server = server
        why = server.why if isinstance(server, Unasked) else "has not answered yet"
        self.facts: dict[str, Any] = _facts(server.name, Told(at_s=now_s, error=why), [])
        self._conversation = Conversation(server) if isinstance(server, JupyterServer) else None
        self._processes, self._writes = KernelProcesses(), ServerWrites()
        self._stamps: dict[str, datetime | None] = {}

    def carry_on(self, asker: Asker, now_s: float) -> Told | None:
        """Ask on; return what a round told when it ends."""
        return None if self._conversation is None else self._conversation.poll(asker, now_s)

    def learn(self, told: Told, tables: Tables, age_s: Callable[[datetime | None], float]) -> None:
        """Set what was told against what the processes did. What told nothing changes nothing to compare with."""
        kernels: list[Json] = []
        if told.error is None:
            used = self._processes.used([each.id for each in told.kernels], tables.processes)
            kernels = [self._kernel(each, used[each.id], age_s(each.last_activity)) for each in told.kernels]
            self._stamps = {each.id: each.last_activity for each in told.kernels}
        self.facts = _facts(self.server.name, told, kernels)
        self.facts["saved_chars"] = self._writes.since(self.server.key, tables.processes)
        if isinstance(self.server, JupyterServer) and self.server.where.unix_socket is None:
            self.facts["clients"] = clients_of(self.server.where.port, tables)[0]

    def close(self, asker: Asker) -> None:
        """Nobody asks it any more."""
        if isinstance(self.server, JupyterServer):
            asker.forget(self.server.where.server)

    def _kernel(self, said: SaidKernel, used: Used, age_s: float) -> Json:
        moved = said.id in self._stamps and said.last_activity != self._stamps[said.id]
        return {
            "id": said.id,
            "kernel": said.name,
            "path": said.path,
            "state": said.state,
            "connections": said.connections,
            "age_s": age_s,
            "moved": moved,
            "local": used.local,
            "span_s": used.span_s,
            "cpu_s": used.cpu_s,
            "written_chars": used.written_chars,
        }


def _facts(name: str, told: Told, kernels: Sequence[Json]) -> dict[str, Any]:
    return {
        "name": name,
        "at_s": told.at_s,
        "error": told.error,
        "absent": told.absent,
        "terminals": told.terminals,
        "saved_chars": None,
        "clients": None,
        "kernels": list(kernels),
    }
