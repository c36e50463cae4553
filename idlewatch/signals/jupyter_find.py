"""
Which Jupyter servers run here, where each listens, and which tokens it may take.

The processes come first: a command line that starts a Jupyter server, then the port that this process itself listens
on, and only then the runtime file that it left, for its token. A file of a process that is gone is never opened, and
a port is never believed because a file names it. RunPod's start script gives JUPYTER_PASSWORD as the token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idlewatch.servers.asking import Question
from idlewatch.signals.jupyter_files import Of, RuntimeFiles, Said

if TYPE_CHECKING:
    from idlewatch.kernel import Key, Process, ProcessTable, Socket, Tables

TOKEN_VARIABLE = "IDLEWATCH_JUPYTER_TOKEN"  # noqa: S105 -- a name
_TOKEN_VARIABLES = (TOKEN_VARIABLE, "JUPYTER_PASSWORD", "JUPYTER_TOKEN")

_PROGRAMS = frozenset(
    {f"jupyter-{app}" for app in ("lab", "labhub", "notebook", "server", "nbclassic", "retro")}
    | {"jupyterhub-singleuser"}
)
_MODULES = {
    "jupyter": "jupyter",
    "jupyterlab": "jupyter-lab",
    "jupyter_server": "jupyter-server",
    "notebook": "jupyter-notebook",
    "nbclassic": "jupyter-nbclassic",
    "jupyterhub.singleuser": "jupyterhub-singleuser",
}
"""What `python -m` is told to be one of the programs."""
_ERRANDS = frozenset(
    {"list", "stop", "password", "build", "clean", "path", "paths", "workspaces", "extension", "licenses"}
)
"""What the same programs do without becoming a server."""
_TOKEN_OPTIONS = ("IdentityProvider.token", "ServerApp.token", "NotebookApp.token")
_PORT_OPTIONS = ("port", "ServerApp.port", "NotebookApp.port")
_BASE_OPTIONS = ("ServerApp.base_url", "NotebookApp.base_url")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- where others listen


@dataclass(frozen=True, slots=True, kw_only=True)
class JupyterServer:
    """One server that can be asked."""

    key: Key
    where: Question
    """Host, port or socket, without a path."""
    base_path: str = "/"
    """Begins and ends with a slash."""
    tokens: tuple[str, ...] = field(default=("",), repr=False)
    """To be tried in this order; empty: without one."""
    wants_password: bool = False
    """It takes a password and no token, which only a browser can give."""

    @property
    def name(self) -> str:
        """For people: `Jupyter on port 8888`."""
        socket = self.where.unix_socket
        return f"Jupyter on port {self.where.port}" if socket is None else f"Jupyter on {socket}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unasked:
    """One server that can't be asked."""

    key: Key
    name: str
    why: str


class JupyterFinder:
    """Finds the servers among the processes; remembers what their runtime files said."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """`variables`: the Pod's own, and the owner's token."""
        self._tokens = tuple(variables[name] for name in _TOKEN_VARIABLES if variables.get(name))
        self._files = RuntimeFiles()

    def look(self, tables: Tables) -> list[JupyterServer | Unasked]:
        """Return every server of this Pod. Never waits; raises SignalError where sockets can't be read."""
        table = tables.processes
        processes = [each for each in table if is_server(table.command(each.pid)) and not _is_fork(each, table)]
        said = self._files.of([Of(each.key, table.proc, table.user_id(each.pid)) for each in processes])
        return [self._server(each, said.get(each.key), tables) for each in sorted(processes, key=lambda p: p.pid)]

    def reread(self, key: Key) -> None:
        """Look again what the file of this process says: it may no longer be true."""
        self._files.doubt(key)

    @property
    def waits(self) -> bool:
        """Whether a file is still being read."""
        return self._files.busy

    def _server(self, process: Process, said: Said | None, tables: Tables) -> JupyterServer | Unasked:
        name = f"Jupyter (process {process.pid})"
        if said is None:
            return Unasked(key=process.key, name=name, why="its runtime file is being read")
        listening = _listening(process.pid, tables)
        argv = tables.processes.command(process.pid)
        where = _by_file(said.file, listening, tables, process.pid) or _by_command(argv, said.file, listening)
        if where is None:
            return Unasked(key=process.key, name=name, why=_why_unasked(said.file, listening))
        file = said.file or {}
        return JupyterServer(
            key=process.key,
            where=where,
            base_path=_base_path(str(file.get("base_url") or _option(argv, _BASE_OPTIONS) or "/")),
            tokens=self._candidates(said, argv),
            wants_password=file.get("password") is True and not file.get("token"),
        )

    def _candidates(self, said: Said, argv: Sequence[str]) -> tuple[str, ...]:
        first = [str(said.file.get("token") or "")] if said.file else []
        others = [_option(argv, _TOKEN_OPTIONS), said.token, *self._tokens]
        return tuple(dict.fromkeys([*first, *(token for token in others if token)])) or ("",)


def is_server(argv: Sequence[str]) -> bool:
    """Whether this command line is that of a Jupyter server itself, not of something that starts or names one."""
    words = list(argv)
    if words and Path(words[0]).name.startswith(("python", "pypy")):
        words = _program(words[1:])
    if not words:
        return False
    name = Path(words[0]).name
    if name == "jupyter":
        name, words = f"jupyter-{''.join(words[1:2])}", words[1:]
    return name in _PROGRAMS and not _ERRANDS.intersection(words[1:2])


def _is_fork(process: Process, table: ProcessTable) -> bool:
    """Whether it is a server's child on its way to become something else: a terminal's shell, before it starts."""
    return table.command(process.pid) == table.command(process.parent)


def _program(words: list[str]) -> list[str]:
    """What Python runs, as the program of that name would be called; nothing for code and for modules not known."""
    while words and words[0].startswith("-"):
        if words[0] in {"-m", "-c"}:
            module = "".join(words[1:2]) if words[0] == "-m" else ""
            program = _MODULES.get(module.partition(".")[0]) or _MODULES.get(module)
            return [program, *words[2:]] if program else []
        words = words[2:] if words[0] in {"-X", "-W"} else words[1:]
    return words


def _listening(pid: int, tables: Tables) -> list[Socket]:
    """The sockets that this process listens on; where its descriptors are denied, those of its user."""
    inodes, user_id = tables.sockets_of(pid), tables.processes.user_id(pid)
    listening = tables.sockets.listening()
    if inodes is not None:
        return [each for each in listening if each.inode in inodes]
    return [each for each in listening if each.user_id == user_id]


def _by_file(file: Mapping[str, Any] | None, listening: Iterable[Socket], tables: Tables, pid: int) -> Question | None:
    if file is None:
        return None
    path = file.get("sock")
    if isinstance(path, str) and path:
        return Question(unix_socket=path) if _has_unix_socket(path, tables, pid) else None
    return _question(listening, file.get("port"), tls=file.get("secure") is True)


def _by_command(argv: Sequence[str], file: Mapping[str, Any] | None, listening: list[Socket]) -> Question | None:
    """Where to ask a server that left no file: the port that it was told, else the only one that it listens on."""
    if file is not None:
        return None
    told, ports = _option(argv, _PORT_OPTIONS), {each.local.port for each in listening}
    port = int(told) if told.isdecimal() and int(told) in ports else None
    if port is None and len(ports) == 1:
        (port,) = ports
    return _question(listening, port, tls=bool(_option(argv, ("certfile", "ServerApp.certfile"))))


def _question(listening: Iterable[Socket], port: object, *, tls: bool) -> Question | None:
    addresses = [each.local.address for each in listening if each.local.port == port]
    if not addresses:
        return None
    address = min(addresses, key=lambda each: ":" in each)
    return Question(host=_ANY.get(address, address), port=int(str(port)), tls=tls)


def _has_unix_socket(path: str, tables: Tables, pid: int) -> bool:
    """Whether this process has the socket of that path (proc_pid_net(5): the inode is the seventh word of unix)."""
    try:
        lines = (tables.processes.proc / "net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return False
    inodes = {int(words[6]) for words in map(str.split, lines) if words[7:] == [path]}
    return bool(inodes & (tables.sockets_of(pid) or frozenset()))


def _why_unasked(file: Mapping[str, Any] | None, listening: Sequence[Socket]) -> str:
    if file is not None:
        return "does not listen where its runtime file says"
    if not listening:
        return "listens on no port yet"
    remedy = f"start it with --port, and set {TOKEN_VARIABLE}"
    return f"left no runtime file that can be read, and listens on more than one port; {remedy}"


def _option(argv: Sequence[str], names: Iterable[str]) -> str:
    """The value of `--NAME=value` or `--NAME value`; empty where there is none."""
    for name in names:
        for index, word in enumerate(argv):
            if word.startswith(f"--{name}="):
                return word.partition("=")[2].strip("'\"")
            if word == f"--{name}" and index + 1 < len(argv):
                return argv[index + 1]
    return ""


def _base_path(text: str) -> str:
    return "/" + text.strip("/") + "/" if text.strip("/") else "/"
