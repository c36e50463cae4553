"""
The people signal: who is in this Pod, and when they last did something.

Being connected is not being active. What counts is input into any terminal, whatever runs it (proxied SSH and the web
terminal have no SSH server above them), and bytes from the client above a connection's own hum, of a logged-in SSH
connection and of an editor's page in a browser: for editors that use no terminal. A live connection whose person did
something within `connected_for_s` bars the warning; a reconnect does not make it younger, and a peer that acknowledges
nothing any more is gone. Output proves nobody: `watch` in an open terminal, or a notice of ours, moves no access time.

What other machines send to any other port above its hum is not called use, but bars for as long, connected or not: it
is a person in a page, or a request of somebody who can't start this Pod again. What stands out evenly for hours is a
page that reloads itself.

Facts of a reading (instants `*_at_s` are CLOCK_BOOTTIME seconds; None: not known, never 0):

    counted_at_s  when processes and sockets were looked at; terminals are looked at at every tick
    unseen        why bytes are not counted here, or why sockets could not be read at all; None where all was seen
    terminals     list: name, user, leader (its first program), opened_at_s, input_at_s (None: nothing typed yet),
                  kind, peers (ids of connections), person (whose connection it is, of kind `ssh`)
    connections   list: id, kind (`ssh`; `editor`: from a browser to an editor's server, or from its tunnel to a relay;
                  `served`: to another program that serves a terminal; `page`: all from other machines to one port of
                  another program), person (not of `served`; of a page what listens), started_at_s, terminal (whether it
                  has one; these two of `ssh`), open (how many; of `page`), received_bytes, acked_bytes, queued_bytes,
                  retransmits

Kinds of terminals: `ssh` below a logged-in SSH session; `outside` put in from outside the container (web terminal,
proxied SSH, docker exec); `served` by a program with a connection from somebody (VS Code, Jupyter, ttyd);
`entrypoint` the container's own; `hidden` what is above it can't be seen; `detached` nobody looks at it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from idlewatch.errors import SignalError
from idlewatch.model import Activity, Finding, Reading, Surroundings
from idlewatch.signals.people_judge import PeopleJudge
from idlewatch.signals.people_look import Users, facts_of
from idlewatch.signals.people_pages import Pages
from idlewatch.signals.unread import unread

if TYPE_CHECKING:
    from idlewatch.kernel import SocketTable, Tables, Terminal


class Kernel(Protocol):
    """Where processes, sockets and terminals come from: `kernel.KernelTables`, or a test."""

    def at(self, now_s: float) -> Tables:
        """Processes and sockets, some seconds old at most."""
        ...

    def terminals(self, now_s: float) -> tuple[Terminal, ...]:
        """The terminals as they are now."""
        ...

    def sockets_now(self, now_s: float) -> SocketTable:
        """The TCP sockets as they are now."""
        ...


class PeopleSignal:
    """Terminals and SSH connections of people."""

    name = "people"
    refines = True

    def __init__(self, pod: Surroundings, *, kernel: Kernel, passwd: Path = Path("/etc/passwd")) -> None:
        self._kernel = kernel
        self._users, self._pages = Users(passwd), Pages()
        self._judge = PeopleJudge(started_s=pod.started_s, connected_for_s=pod.connected_for_s)
        self._newest: Reading | None = None
        self._found: tuple[float, Finding] | None = None

    def read(self, now_s: float) -> Reading:
        """
        Return who is here, and what has come from them; the last reading again where nothing is new.

        Raises SignalError where /proc shows no process.
        """
        before = self._newest
        if before is not None and now_s <= before.at_s:
            return before
        terminals = self._kernel.terminals(now_s)  # first: a new one has processes and sockets looked at anew
        with suppress(SignalError):  # `unseen` tells it
            self._pages.count(self._kernel.sockets_now(now_s))
        facts = facts_of(self._kernel.at(now_s), terminals, self._users, self._pages)
        if before is not None and facts == before.facts:
            return before
        covers_s = 0.0 if before is None else now_s - before.at_s
        self._newest = Reading(signal=self.name, at_s=now_s, covers_s=covers_s, facts=facts)
        return self._newest

    def judge(self, reading: Reading) -> Finding:
        """Return who keeps this Pod, or that nobody does."""
        nothing = unread(reading)
        if nothing:
            return nothing
        if self._found is None or reading.at_s > self._found[0]:
            try:
                finding = self._judge.finding(reading.facts, reading.at_s)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                finding = Finding(
                    signal=self.name, activity=Activity.UNKNOWN, reason=f"facts that make no sense: {error}"
                )
            self._found = reading.at_s, replace(finding, signal=self.name)
        return self._found[1]

    def close(self) -> None:
        """Nothing was started."""
