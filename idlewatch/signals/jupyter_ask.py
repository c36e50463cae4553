"""
The talk with one Jupyter server: which kernels it has, what it says of them, and what people call them.

Every 30 s at most `/api/kernels`; `/api/sessions` and `/api/terminals` only for names and numbers that people read, so
seldom, and what they fail to tell costs nothing. `no_track_activity` keeps our questions out of the server's own idea
of activity (jupyter_server's `update_api_activity`), so that they can't hold up its own shutdown on idleness either.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeAlias

from idlewatch.errors import SignalError
from idlewatch.model import Json
from idlewatch.servers.asking import Answer, Asker, Question
from idlewatch.signals.jupyter_find import TOKEN_VARIABLE, JupyterServer

EVERY_S = 30.0
REFUSED_EVERY_S = 300.0
"""After a refusal: each question is a line in the server's log, and a token does not become right by itself."""
NAMES_EVERY_S = 300.0
_KERNELS_MAX = 200
_NAME_CHARACTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidKernel:
    """What the server says of one kernel."""

    id: str
    name: str
    path: str | None
    """The notebook, as far as it is known."""
    state: str
    connections: int
    last_activity: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of one round of questions, at the instant of the first one."""

    at_s: float
    kernels: tuple[SaidKernel, ...] = ()
    terminals: int | None = None
    error: str | None = None
    absent: str | None = None
    refused: bool = False
    """No token was taken."""


_Round: TypeAlias = Generator[Question, Answer, Told]


@dataclass(slots=True)
class _Names:
    """What changes seldom."""

    at_s: float = float("-inf")
    paths: dict[str, str] = field(default_factory=dict)
    terminals: int | None = None


class Conversation:
    """Rounds of questions to one server, each carried on from tick to tick."""

    def __init__(self, server: JupyterServer) -> None:
        self.server = server
        self._tokens = list(server.tokens)
        self._names = _Names()
        self._due_s = float("-inf")
        self._round: _Round | None = None
        self._asked_s = 0.0

    def poll(self, asker: Asker, now_s: float) -> Told | None:
        """Carry on; return what a round told when it ends. Never waits."""
        where = self.server.where.server
        if self._round is None:
            return self._begun(asker, now_s) if now_s >= self._due_s else None
        answer = asker.poll(where, now_s)
        if answer is None:
            return None
        try:
            asker.ask(self._round.send(answer), now_s)
        except StopIteration as end:
            return self._ended(end.value)
        return None

    def _begun(self, asker: Asker, now_s: float) -> Told | None:
        self._asked_s, self._due_s = now_s, now_s + EVERY_S
        self._round = self._questions(now_s)
        if asker.ask(next(self._round), now_s):
            return None
        self._round, self._due_s = None, now_s
        return Told(at_s=now_s, error="still owes the answer to an earlier question")

    def _ended(self, told: Told) -> Told:
        self._round = None
        if told.refused or told.absent:
            self._due_s = self._asked_s + REFUSED_EVERY_S
        return told

    def _questions(self, at_s: float) -> _Round:
        answer = yield self._question("api/kernels")
        for _ in self._tokens[1:]:
            if answer.status not in {401, 403}:
                break
            self._tokens.append(self._tokens.pop(0))
            answer = yield self._question("api/kernels")
        told = self._told(answer, at_s)
        if told.error or told.absent:
            return told
        if at_s >= self._names.at_s + NAMES_EVERY_S or not self._knows(told.kernels):
            paths = _paths((yield self._question("api/sessions")))
            terminals = _number_of((yield self._question("api/terminals")))
            self._names = _Names(at_s, paths, terminals)
        named = tuple(replace(kernel, path=self._names.paths.get(kernel.id)) for kernel in told.kernels)
        return replace(told, kernels=named, terminals=self._names.terminals)

    def _question(self, path: str) -> Question:
        token = self._tokens[0]
        return replace(
            self.server.where,
            path=f"{self.server.base_path}{path}?no_track_activity=1",
            authorization=f"token {token}" if token else None,
            accept="application/json",
        )

    def _knows(self, kernels: Iterable[SaidKernel]) -> bool:
        return all(kernel.id in self._names.paths for kernel in kernels)

    def _told(self, answer: Answer, at_s: float) -> Told:
        status = answer.status
        if answer.error:
            return Told(at_s=at_s, error=answer.error)
        if status in {401, 403}:
            return Told(at_s=at_s, error=f"answers {status}: {self._refusal()}", refused=True)
        if status == 404:
            return Told(at_s=at_s, absent="has no kernels (/api/kernels answers 404)")
        if not answer.ok:
            return Told(at_s=at_s, error=f"answers {status}")
        try:
            return Told(at_s=at_s, kernels=_kernels(answer.json()))
        except (SignalError, KeyError, TypeError, ValueError, AttributeError):
            return Told(at_s=at_s, error="answers what is no list of kernels")

    def _refusal(self) -> str:
        if self.server.wants_password:
            return "it takes only a password; start it with a token, or set IDLEWATCH_IGNORE=jupyter"
        return f"its token is not known; set {TOKEN_VARIABLE}"


def _kernels(said: Json) -> tuple[SaidKernel, ...]:
    """The kernels of an answer. Raises where it is not what the API promises."""
    if not isinstance(said, list) or len(said) > _KERNELS_MAX:
        raise ValueError
    return tuple(_kernel(each) for each in said)


def _kernel(said: Json) -> SaidKernel:
    if not isinstance(said, dict):
        raise TypeError
    connections = said.get("connections", 0)
    return SaidKernel(
        id=str(said["id"]),
        name=shown(str(said.get("name", "kernel"))),
        path=None,
        state=shown(str(said["execution_state"])),
        connections=connections if isinstance(connections, int) else 0,
        last_activity=_instant(said.get("last_activity")),
    )


def _instant(said: Json) -> datetime | None:
    """The instant of `2026-11-24T07:55:58.839226Z`; a stamp without a zone is UTC, as the server's clock is."""
    try:
        instant = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def _paths(answer: Answer) -> dict[str, str]:
    """Kernel id -> what its session is called; empty where the server does not tell."""
    found: dict[str, str] = {}
    for session in _list_of(answer):
        kernel = session.get("kernel") if isinstance(session, dict) else None
        if isinstance(session, dict) and isinstance(kernel, dict):
            found[str(kernel.get("id"))] = shown(str(session.get("path") or session.get("name") or ""))
    return found


def _number_of(answer: Answer) -> int | None:
    return len(_list_of(answer)) if answer.ok else None


def _list_of(answer: Answer) -> list[Json]:
    if not answer.ok:
        return []
    try:
        said = answer.json()
    except SignalError:
        return []
    return said if isinstance(said, list) else []


def shown(text: str) -> str:
    """A name from outside as it may stand in a line for people: no control characters, not endless."""
    kept = "".join(character for character in text if character.isprintable())
    return kept if len(kept) <= _NAME_CHARACTERS else "…" + kept[-_NAME_CHARACTERS + 1 :]
