"""
The talk with one server: every way to ask it that its product has, until one gives figures.

Just before anything is sent the process is looked at again: it must still have the very socket that was seen.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from idlewatch.errors import SignalError
from idlewatch.servers import counts, page
from idlewatch.servers.asking import Answer, Asker, Question
from idlewatch.servers.counts import Counts
from idlewatch.servers.known import KNOWN, PRODUCTS, Ask, KnownServer, Way
from idlewatch.servers.named import NamedServer
from idlewatch.servers.recognise import option
from idlewatch.signals.servers_look import FoundServer

if TYPE_CHECKING:
    from idlewatch.kernel import Tables

DEADLINE_S = 10.0
"""Of one question; a server under load answers late."""
_NOT_OFFERED = frozenset({400, 403, 404, 405, 501})
"""This version has no such page, or its owner did not turn it on: the next way may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What came of one round with one server."""

    counts: Counts = field(default_factory=Counts)
    asked: int = 0
    """Questions sent in this round."""
    error: str | None = None
    serves_nothing: bool = False
    """It only hands requests on to servers that are asked themselves."""


_Round: TypeAlias = Generator[Question, Answer, Said]


class Conversation:
    """Rounds of questions to one server, each carried on from tick to tick."""

    def __init__(self, server: FoundServer) -> None:
        self._known = None if server.kind is None else KNOWN[server.kind]
        self._ways = _ways(server, self._known)
        self._best = 0
        """The way that gave figures last."""
        self._round: _Round | None = None
        self._server = server

    def begin(self, server: FoundServer, asker: Asker, tables: Tables, now_s: float) -> Said | None:
        """Begin a round with the server as it was found now; what the round gave where it ended at once."""
        self._server = server
        if server.where is None:
            return Said(error=server.why_not)
        self._round = self._talk(server.where)
        return self._ask(next(self._round), asker, tables, now_s)

    def carry_on(self, asker: Asker, tables: Tables, now_s: float) -> Said | None:
        """Return what the round gave once it has ended. Never waits."""
        if self._round is None or self._server.where is None:
            return Said(error="was not asked")
        answer = asker.poll(self._server.where.server, now_s)
        if answer is None:
            return None
        try:
            question = self._round.send(answer)
        except StopIteration as end:
            self._round = None
            said: Said = end.value
            return said
        return self._ask(question, asker, tables, now_s)

    def _ask(self, question: Question, asker: Asker, tables: Tables, now_s: float) -> Said | None:
        if not _still_listens(self._server, tables):
            return Said(error="has closed its port since it was seen")
        if not asker.ask(question, now_s):
            return Said(error="still owes an earlier answer")
        return None

    def _talk(self, where: Question) -> _Round:
        asked, problems = 0, list[str]()
        for index in sorted(range(len(self._ways)), key=lambda index: index != self._best):
            figures = Counts()
            for ask in self._ways[index]:
                answer = yield replace(where, path=ask.path, limit_bytes=ask.limit_bytes, deadline_s=DEADLINE_S)
                asked += 1
                try:
                    figures = figures.merged(_taken(answer, ask))
                except _Refused as error:
                    return Said(asked=asked, error=str(error))
                except SignalError as error:
                    if self._known and self._known.serves_nothing and self._known.serves_nothing in answer.body:
                        return Said(asked=asked, serves_nothing=True)
                    problems.append(str(error))
                    break
            else:
                self._best = index
                return Said(counts=figures, asked=asked)
        self._best = 0
        hint = f"; {self._known.hint}" if self._known and self._known.hint else ""
        return Said(asked=asked, error=f"{problems[0]}{hint}")


class _Refused(SignalError):
    """No other way would do better."""


def _taken(answer: Answer, ask: Ask) -> Counts:
    if answer.error is not None:
        raise _Refused(answer.error)
    path = answer.path.partition("?")[0]
    if answer.status == 401:
        raise _Refused(f"wants a key or a password for {path}")
    if answer.status in _NOT_OFFERED:
        raise SignalError(f"has no {path} (HTTP {answer.status})")
    if not answer.ok:
        raise _Refused(f"answers HTTP {answer.status} to {path}")
    return ask.takes(answer)


def _ways(server: FoundServer, known: KnownServer | None) -> tuple[Way, ...]:
    named = server.named
    if known is None:
        return () if named is None else ((Ask(named.path, partial(_any_page, named)),),)
    for name, ways in known.ways_with.items():
        value = option(server.argv, (name,))
        if value and not value.startswith("-"):
            return ways
    return known.ways


def _any_page(named: NamedServer, answer: Answer) -> Counts:
    return counts.of_any_page(page.parse(answer.body), named.counters, PRODUCTS)


def _still_listens(server: FoundServer, tables: Tables) -> bool:
    """Whether one of its processes still has the sockets; true where their owner can't be seen: the owner named it."""
    if not server.processes:
        return server.named is not None
    return any(server.inodes & (tables.sockets_of(each.pid) or frozenset()) for each in server.processes)
