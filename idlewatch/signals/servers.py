"""
The servers signal: whether anybody asks the servers of models that run here for anything.

vLLM, SGLang, TGI, Ollama, llama.cpp, ComfyUI, Stable Diffusion WebUI and Forge, Gradio, Triton, by their own counters
(`servers.known`), and what IDLEWATCH_SERVERS names. They are found by the process that owns the port, and asked every
30 s; nothing is ever sent to a port whose owner is no known server, because stray requests have hung other programs.

Facts of a reading: `missing` (why named servers are not there) and `servers`, a list of

    id, name, kind            who; the id is another one after a restart; `kind` is a key of KNOWN or null
    state                     `asked`, `starting` (runs and does not listen yet), `serves nothing` (hands requests on)
    error                     why it told nothing; null where it did; then the figures count for nothing
    pid, pids, started_s      its first process, that and all below, and the start (CLOCK_BOOTTIME seconds); or null
    requests, prompt_tokens, generated_tokens, steps, marks      what it counted since it started (`servers.counts`)
    running                   requests that run or wait now
    counts_ours, asked        whether our questions are among the requests, and how many there were
    cpu_cores                 CPU of its processes since the last reading, in cores; null where not known
    clients, inside           open connections, and whether all are of programs of this Pod itself
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from idlewatch.errors import SignalError
from idlewatch.model import Activity, Finding, Reading, Surroundings
from idlewatch.servers.asking import Asker
from idlewatch.servers.named import NamedServer
from idlewatch.signals.servers_judge import ServersJudge
from idlewatch.signals.servers_look import ServerFinder
from idlewatch.signals.servers_round import Round, Rounds
from idlewatch.signals.unread import unread

if TYPE_CHECKING:
    from idlewatch.kernel import Key, Tables

EVERY_S = 30.0
STALE_S = 3 * EVERY_S
"""Answers so old tell no longer that a server idles: a round with all its questions takes less."""
_JITTER_S = 1.0
"""A tick that comes so much too early asks all the same: ticks are never exactly 5 s apart."""


class Kernel(Protocol):
    """Where processes and sockets come from: `kernel.KernelTables`, or a test."""

    def at(self, now_s: float) -> Tables:
        """Processes and sockets, some seconds old at most."""
        ...


class ServersSignal:
    """Requests to every known server of this Pod."""

    name = "servers"
    refines = True

    def __init__(
        self, pod: Surroundings, *, kernel: Kernel, named: Sequence[NamedServer] = (), asker: Asker | None = None
    ) -> None:
        """`named`: the servers of IDLEWATCH_SERVERS (`servers.named.named_servers`)."""
        self._kernel, self._asker = kernel, asker or Asker()
        self._finder, self._rounds = ServerFinder(named), Rounds(self._asker)
        self._round: Round | None = None
        self._began_s = float("-inf")
        self._newest: Reading | None = None
        self._processes: frozenset[Key] = frozenset()
        """Of the servers that the newest reading tells of, where it is fresh; empty where nothing could be read."""
        self._names: tuple[str, ...] = ()
        """Who was there at the last round."""
        self._judge = ServersJudge(connected_for_s=pod.connected_for_s)
        self._judged: tuple[Reading, Finding] | None = None

    def read(self, now_s: float) -> Reading:
        """
        Carry the questions on; return the newest answers, the last reading again where there are no newer ones.

        Raises SignalError where processes or sockets can't be read.
        """
        processes, self._processes = self._processes, frozenset()
        if self._round is None and now_s - self._began_s >= EVERY_S - _JITTER_S:
            self._begin(now_s)
        if self._round is not None and self._rounds.carry_on(self._round, self._kernel.at(now_s), now_s):
            processes = frozenset(process.key for server in self._round.servers for process in server.processes)
            self._newest, self._round = self._reading(self._round), None
        if self._newest is None:
            asked = ", ".join(server.name for server in self._round.servers) if self._round else "servers"
            raise SignalError(f"the first answers of {asked} are still to come")
        if self._newest.absent is None and now_s - self._newest.at_s < STALE_S:
            self._processes = processes
        return self._newest

    def _begin(self, now_s: float) -> None:
        tables = self._kernel.at(now_s)
        servers, missing = self._finder.look(tables)
        self._began_s = now_s
        if servers:
            self._round = self._rounds.begin(servers, missing, tables, now_s)
        else:
            self._newest = self._absent(missing, tables, now_s)

    def _absent(self, missing: Sequence[str], tables: Tables, now_s: float) -> Reading:
        if tables.processes.hides:
            raise SignalError("/proc hides other users' processes: nothing tells whether a server runs here")
        ended = [f"{name} has ended, its port is closed" for name in self._names]
        self._names = ()
        ports = len({each.local.port for each in tables.sockets.listening()})
        seen = f"none of {len(tables.processes.by_pid)} processes and {ports} open ports is a known server"
        return Reading(signal=self.name, at_s=now_s, absent="; ".join([*ended, *missing, seen]))

    def _reading(self, ended: Round) -> Reading:
        before = self._newest
        covers_s = 0.0 if before is None or before.absent is not None else ended.at_s - before.at_s
        self._names = tuple(each.name for each in ended.servers)
        return Reading(signal=self.name, at_s=ended.at_s, covers_s=covers_s, facts=self._rounds.facts(ended))

    def judge(self, reading: Reading) -> Finding:
        """Return whether anybody asked a server for anything, or a doubt or a warm server bars the warning."""
        if self._judged is None or self._judged[0] != reading:
            self._judged = reading, self._finding(reading)
        return self._judged[1]

    def _finding(self, reading: Reading) -> Finding:
        if reading.absent is not None:
            self._judge.forget()
        nothing = unread(reading)
        if nothing:
            return nothing
        try:
            return self._judge.finding(reading.facts, reading.at_s, reading.covers_s)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"facts that make no sense: {type(error).__name__} {error}"
            return Finding(signal=self.name, activity=Activity.UNKNOWN, reason=reason)

    @property
    def known_server_pids(self) -> frozenset[Key]:
        """
        Processes (PID, start in clock ticks) of the servers whose own counters were read and did not move lately.

        What CPU they use is no work: vLLM and SGLang spin while nothing is asked of them. Empty as soon as nothing was
        read: a server that has ended must not lend its PID to a job.
        """
        idle_pids = self._judge.idle_pids
        return frozenset(key for key in self._processes if key[0] in idle_pids)

    def close(self) -> None:
        """End every question."""
        self._asker.close()
