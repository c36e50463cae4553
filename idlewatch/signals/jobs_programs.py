"""
What a process is, by its name: work, or one of those that use CPU and bytes without anybody working.

Names alone, from the process's own name and the first words of its command line; nothing is opened or asked. What is
not known by name is work. A name that takes a program out of what counts is one of an installed program: somebody's own
`top.py` is their work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from idlewatch.kernel import Key, Process, ProcessTable


class Role(StrEnum):
    """What a program's CPU and bytes mean."""

    WORK = "work"
    TOOL = "tool"
    """Builds, installs, unpacks: it waits on network and disk, and ends by itself."""
    AGENT = "agent"
    """An AI coding agent."""
    KERNEL = "kernel"
    """Of a notebook."""
    EDITOR = "editor"
    """Houses people's sessions and hums: Jupyter's server, an IDE's remote part. What it starts may be work."""
    HOUSE = "house"
    """Serves the Pod itself, or starts others: init, sshd, tmux, cron, exporters, tunnels."""
    SERVER = "server"
    """Answers requests and spins while idle: it and all below it are judged by their own counters elsewhere."""
    VIEWER = "viewer"
    """Shows figures again and again."""
    NOISE = "noise"
    """Language servers, watchers of files, extensions of an editor."""
    OURS = "ours"
    """idlewatch's own verbs; a command that one of them runs is the user's."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is known of one process by its name."""

    name: str
    """For people: `train.py`, `torch.distributed.run`, `cargo`."""
    role: Role
    words: frozenset[str]
    """Every name it goes by: its own, its executable's, its script's, its module's, its package's."""
    command: tuple[str, ...]


_NAMES: dict[Role, str] = {
    Role.OURS: "idlewatch",
    Role.AGENT: """
        claude claude-code @anthropic-ai/claude-code codex @openai/codex aider cursor-agent gemini @google/gemini-cli
        opencode goose amp crush copilot @github/copilot qwen droid auggie openhands""",
    Role.KERNEL: "ipykernel_launcher ipykernel colab_kernel_launcher xpython bash_kernel rsession evcxr_jupyter",
    Role.SERVER: """
        vllm.entrypoints.openai.api_server vllm.entrypoints.api_server sglang.launch_server text-generation-launcher
        text-generation-server text-generation-router text-embeddings-router tritonserver llama-server trtllm-serve
        aphrodite xinference-local xinference-supervisor koboldcpp tensorboard""",
    Role.VIEWER: """
        watch htop top btop bpytop atop nvtop nvitop gpustat nvidia-smi rocm-smi amd-smi glances iotop iftop nload
        nethogs vmstat iostat dstat dmon tail less""",
    Role.NOISE: """
        pylsp pyls pyright pyright-langserver basedpyright pylance tsserver vtsls rust-analyzer gopls clangd jdtls
        ruff-lsp copilot-agent tabnine marksman texlab eslintserver watchman inotifywait inotifywatch fswatch nodemon
        watchmedo entr watchexec cargo-watch gitstatusd""",
    Role.EDITOR: """
        jupyter-lab jupyter-labhub jupyter-notebook jupyter-server jupyterhub-singleuser jupyterlab jupyter_server
        notebook code-server openvscode-server vim nvim vi emacs nano hx kak rserver rstudio-server zed-remote-server
        remote-dev-server""",
    Role.HOUSE: """
        sshd sshd-session sshd-auth dropbear tmux screen zellij dtach abduco mosh-server ttyd gotty login su sudo
        systemd init tini dumb-init docker-init catatonit s6-svscan s6-supervise runsv runsvdir supervisord cron crond
        atd anacron dockerd containerd containerd-shim kthreadd nginx rsyslogd dbus-daemon agetty raylet gcs_server
        wandb-core wandb-service gpu_stats node_exporter dcgm-exporter nv-hostengine prometheus netdata telegraf
        fluent-bit vector promtail datadog-agent tailscaled cloudflared ngrok frpc autossh""",
    Role.TOOL: """
        pip pip3 uv uvx pipx poetry pdm conda mamba micromamba pixi apt apt-get aptitude dpkg dnf yum apk git git-lfs
        git-remote-http git-remote-https make gmake cmake ninja meson bazel cc gcc g++ c++ cc1 cc1plus clang clang++
        ld lld nvcc cicc ptxas rustc cargo go javac mvn gradle npm npm-cli npx npx-cli yarn pnpm tar bsdtar cp mv dd
        unzip zip 7z 7za gzip gunzip pigz zstd unzstd xz bzip2 lz4 unsquashfs mksquashfs""",
}
_BY_NAME = {word: role for role, words in reversed(_NAMES.items()) for word in words.split()}

_BY_VERB = {
    ("vllm", "serve"): Role.SERVER,
    ("ollama", "serve"): Role.SERVER,
    ("ollama", "runner"): Role.SERVER,
    ("lmdeploy", "serve"): Role.SERVER,
    ("mlflow", "ui"): Role.SERVER,
    ("mlflow", "server"): Role.SERVER,
    ("jupyter", "lab"): Role.EDITOR,
    ("jupyter", "notebook"): Role.EDITOR,
    ("jupyter", "server"): Role.EDITOR,
    ("code", "tunnel"): Role.EDITOR,
    ("ruff", "server"): Role.NOISE,
    ("pyright", "--watch"): Role.NOISE,
    ("git", "fsmonitor--daemon"): Role.NOISE,
    ("git", "credential-cache--daemon"): Role.NOISE,
}
"""Programs that are many things: the first of their words that is no option decides."""

_BY_PATH = (
    # A debugger is an extension, and runs the program of whoever debugs.
    (re.compile(r"/extensions/[^ ]*/debugpy( |/launcher)"), Role.WORK),
    (re.compile(r"/\.[\w-]+-server/extensions/|/code-server/extensions/"), Role.NOISE),
    (re.compile(r"github\.copilot|--type=fileWatcher"), Role.NOISE),
    (re.compile(r"/\.[\w-]+-(server|remote)/.*(server-main|bootstrap-fork)|/\.[\w-]+/cli/servers/"), Role.EDITOR),
    (re.compile(r"/\.(vscode|cursor|windsurf|positron|trae|kiro)[\w-]*-(server|remote)/"), Role.EDITOR),
    (re.compile(r"/code-server/|/JetBrains/"), Role.EDITOR),
)
"""Of the start of a command line. VS Code's kin (Cursor, Windsurf, Trae, Positron …) differ by one folder's name."""
_LANGUAGE_SERVER = re.compile(r"[\w.-]*(language[-_]?server|langserver|[-_]lsp)[\w.-]*", re.IGNORECASE)
_INTERPRETER = re.compile(r"(python|pypy|node|nodejs|bun|deno|bash|sh|dash|zsh|fish|perl|ruby|Rscript)[\d.]*")
_SHELLS = frozenset({"bash", "sh", "dash", "zsh", "fish"})
_INSTALLED = re.compile(r"(^|/)(site-packages|dist-packages|node_modules)/|^/usr/(?!(local/)?src/)|(^|/)s?bin/[^/]+$")
"""Where an interpreter's script is a program that somebody installed; in a folder `bin` only without an ending."""
_COUNTS_MORE = frozenset({Role.TOOL, Role.AGENT, Role.KERNEL})
"""Roles that anybody's script may have by its name: what is taken for one is not overlooked."""
_TAKES_A_VALUE = frozenset({"-W", "-X", "-r", "--require", "--import", "--loader", "-o", "-O"})
_PACKAGE = re.compile(r"/node_modules/((?:@[\w.-]+/)?[\w.-]+)/")
_ENDINGS = re.compile(r"\.(py|pyc|js|mjs|cjs)$")
STARTING_S = 10.0
"""A program so young reads itself, its libraries and its settings: that is no progress."""
_COMM_MAX = 15
"""The kernel keeps so much of a process's name."""
_WORDS_READ = 12
"""Of a command line; what comes after decides nothing."""


def program(comm: str, command: Sequence[str]) -> Program:
    """Return what goes by this process name and command line."""
    command = tuple(command[:_WORDS_READ])
    executable = _executable(command[0]) if command and command[0] else comm
    name, words, own = executable, {comm, executable}, set[str]()
    if _INTERPRETER.fullmatch(executable):
        script, is_module = _script(command, takes_module=executable.startswith(("python", "pypy")))
        if script and not script.startswith(("/dev/", "/proc/")):
            name = script if is_module else script.rpartition("/")[2]
            script_words = set(_script_words(script, is_module=is_module))
            # A script that is started by its own path gives the process its name, too.
            own = set() if is_module or _is_installed(script) else script_words | {name[:_COMM_MAX]}
            words |= script_words
    return Program(plain(name), _role(words, own, command), frozenset(words), command)


def plain(text: str, longest: int = 48) -> str:
    """Return `text` without anything that a terminal would take for more than a letter, and not too much of it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:longest])


def _executable(first: str) -> str:
    """Return the program's name; a title that a process gave itself (`nginx: worker process`) begins with it.

    A login shell's name begins with a dash (login(1)).
    """
    name = first.split(maxsplit=1)[0].removesuffix(":").rpartition("/")[2] if first.strip() else first
    return name.removeprefix("-")


def _script(command: Sequence[str], *, takes_module: bool) -> tuple[str, bool]:
    """Return the script or module that an interpreter runs, and whether it is a module; empty where it is neither."""
    words = iter(command[1:])
    for word in words:
        if word == "-m" and takes_module:
            return next(words, ""), True
        if word in {"-c", "-e", "-p", "-s", "-"}:
            return "", False
        if word in _TAKES_A_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word, False
    return "", False


def _script_words(script: str, *, is_module: bool) -> Iterator[str]:
    if is_module:
        yield script
        yield script.partition(".")[0]
        return
    yield _ENDINGS.sub("", script.rpartition("/")[2])
    yield from _PACKAGE.findall(script)[-1:]


def _is_installed(script: str) -> bool:
    found = _INSTALLED.search(script)
    return found is not None and not (found[0].endswith(script.rpartition("/")[2]) and _ENDINGS.search(script))


def _role(words: set[str], own: set[str], command: Sequence[str]) -> Role:
    """Return what goes by these words; those that are only `own`, a script's of somebody, overlook nothing."""
    found = {
        _BY_NAME[word] for word in words if word in _BY_NAME and (word not in own or _BY_NAME[word] in _COUNTS_MORE)
    }
    words = words - own
    verb = next((word for word in command[_verb_from(words, command) :] if not word.startswith("-")), "")
    found |= {_BY_VERB[word, verb] for word in words if (word, verb) in _BY_VERB}
    if any(_LANGUAGE_SERVER.fullmatch(word) for word in words):
        found.add(Role.NOISE)
    if Role.TOOL in found and Role.NOISE in found:
        return Role.NOISE
    for role in _NAMES:
        if role in found:
            return role
    head = " ".join(command[:6])
    return next((role for path, role in _BY_PATH if path.search(head)), Role.WORK)


def _verb_from(words: set[str], command: Sequence[str]) -> int:
    """Where the words after the program's own name begin."""
    names = (_ENDINGS.sub("", word.rpartition("/")[2]) for word in command)
    return next((at + 1 for at, name in enumerate(names) if name in words and not _INTERPRETER.fullmatch(name)), 1)


def is_interpreter(program: Program) -> bool:
    """Whether it runs what somebody wrote: a language's, or a shell."""
    return bool(_INTERPRETER.fullmatch(_executable(program.command[0]))) if program.command else False


def is_own_script(program: Program) -> bool:
    """Whether an interpreter runs a script that nobody installed, by its path: somebody's own."""
    if not is_interpreter(program):
        return False
    takes_module = _executable(program.command[0]).startswith(("python", "pypy"))
    script, is_module = _script(program.command, takes_module=takes_module)
    return bool(script) and not is_module and not _is_installed(script)


def is_shell(program: Program) -> bool:
    """Whether that is a shell."""
    return bool(program.command) and _executable(program.command[0]) in _SHELLS


class Programs:
    """Remembers what each living process is, so that its command line is read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Key, str], Program] = {}

    def of(self, process: Process, processes: ProcessTable) -> Program:
        """
        Return what `process` is; it is looked at anew when it runs another program.

        One that waits uninterruptibly goes by its own name alone for now: it may be stuck on a dead file system, and
        its command line lies in its memory, where reading it would wait, too.
        """
        if process.state == "D" and (process.key, process.comm) not in self._known:
            return program(process.comm, ())
        known = self._known.get((process.key, process.comm))
        if known is None:
            known = program(process.comm, processes.command(process.pid))
            self._known[process.key, process.comm] = known
        return known

    def forget_ended(self, processes: ProcessTable) -> None:
        """Keep what lives."""
        living = {(process.key, process.comm) for process in processes}
        self._known = {id_: known for id_, known in self._known.items() if id_ in living}
