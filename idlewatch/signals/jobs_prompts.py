"""
Jobs that wait for a person: a debugger at its prompt, `input()`, `Proceed ([y]/n)?`.

Somebody's own program that asks its terminal, or a tool that does. Shells, consoles of languages and data bases, agents
and what fills the screen ask all day long, and a session that merely exists is nothing. Nor is what asks the terminal
of the container's own command, which nobody can type into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from idlewatch.kernel import prompts
from idlewatch.model import Json
from idlewatch.signals.jobs_programs import Program, Role, is_interpreter, is_shell

if TYPE_CHECKING:
    from idlewatch.kernel import Process, ProcessTable
    from idlewatch.signals.jobs_places import Places

Asks: TypeAlias = "Callable[[Path, Process], prompts.Prompt | None]"
"""Whether a process waits for what is typed: `kernel.prompts.prompt`, or a test."""

FORGOTTEN_S = 600.0
"""A terminal that nothing asked for so long begins anew: until then it is one wait, also of a program that asks again
and again for a few seconds, or that is started again and again."""

_DEBUGGERS = frozenset({"gdb", "lldb", "cuda-gdb", "rust-gdb", "rust-lldb", "dlv", "rr"})
_CONSOLE_NAMES = """
    ipython ipython3 bpython ptpython ptipython xonsh radian jupyter-console irb pgcli mycli litecli sqlite3 psql mysql
    mariadb mongosh redis-cli ssh sftp ftp telnet mosh-client ranger vd visidata asciinema"""
_CONSOLES = frozenset(_CONSOLE_NAMES.split())


@dataclass(slots=True)
class _Wait:
    """One terminal that is waited for: since when, its access time, and when it was last seen."""

    since_s: float
    input_ns: int
    seen_s: float


@dataclass(slots=True)
class PromptsLook:
    """Looks again and again; remembers since when each terminal has been waited for."""

    asks: Asks = prompts.prompt
    _waits: dict[int, _Wait] = field(default_factory=dict)

    def facts(self, now: ProcessTable, places: Places, left_out: Iterable[int]) -> list[dict[str, Json]]:
        """Return `prompts` of a reading: where, name, pid, waits_s since it was seen, or since the last input."""
        of_init, left_out = now.get(1), frozenset(left_out)
        found: dict[int, dict[str, Json]] = {}
        for process in sorted(now, key=lambda each: each.key, reverse=True):
            if not process.in_foreground or process.terminal in found or process.pid in left_out:
                continue
            if of_init is not None and process.terminal == of_init.terminal:
                continue
            asked = self._asked(now, process, places)
            if asked is not None:
                waits_s = now.at_s - self._since_s(process.terminal, asked, now.at_s)
                named: dict[str, Json] = {"where": places.of(process).where, "name": places.program(process).name}
                found[process.terminal] = named | {"pid": process.pid, "waits_s": round(waits_s, 1)}
        self._waits = {key: wait for key, wait in self._waits.items() if now.at_s - wait.seen_s < FORGOTTEN_S}
        return [found[terminal] for terminal in sorted(found)]

    def _asked(self, now: ProcessTable, process: Process, places: Places) -> prompts.Prompt | None:
        program = places.program(process)
        if program.role not in {Role.WORK, Role.TOOL} or not places.of(process).counts:
            return None
        if program.words & _CONSOLES:
            return None
        if is_interpreter(program) and not _runs_code(program):
            return None
        asked = self.asks(now.proc, process)
        return None if asked is None or (asked.by_key and not _asks_by_key(program)) else asked

    def _since_s(self, terminal: int, asked: prompts.Prompt, at_s: float) -> float:
        wait = self._waits.get(terminal)
        since_s = at_s if wait is None or wait.input_ns != asked.input_ns else wait.since_s
        self._waits[terminal] = _Wait(since_s, asked.input_ns, at_s)
        return since_s


def _runs_code(program: Program) -> bool:
    """Whether an interpreter was given any; else it is a console, or a shell."""
    return any(not word.startswith("-") for word in program.command[1:])


def _asks_by_key(program: Program) -> bool:
    """
    Whether a program that asks key by key is a job, and no screen that waits for whoever comes.

    A debugger runs in the program itself, so any program of an interpreter may be one; a shell edits its own line.
    """
    return bool(program.words & _DEBUGGERS) or (is_interpreter(program) and not is_shell(program))
