"""
From a command line to a known server, and to the port that is its own.

Only the program that was started counts, never a word somewhere in the line: an editor that has `vllm` open, a shell
that will start it and a client of it are no server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from idlewatch.servers.known import KNOWN, KnownServer, Program

_PYTHON = re.compile(r"(python|pypy)[0-9.]*")
_OPTIONS_WITH_VALUE = frozenset({"-W", "-X", "--check-hash-based-pycs"})
_TLS_OPTIONS = ("--ssl-certfile", "--ssl-cert-file", "--tls-certfile")
"""vLLM, SGLang; llama.cpp; ComfyUI, Automatic1111."""


@dataclass(frozen=True, slots=True)
class Started:
    """What a command line starts."""

    run: str
    """The program or script without its folder; `-m NAME` for a module; empty where there is none."""
    folder: str
    """The folder of the script as it was written."""
    words: tuple[str, ...]


def started(argv: Sequence[str]) -> Started:
    """Return what this command line starts."""
    words = list(argv)
    if words and _PYTHON.fullmatch(_name(words[0])):
        words = words[1:]
        while words and words[0].startswith("-") and words[0] != "-m":
            if words[0] == "-c":
                return Started("", "", ())
            words = words[2:] if words[0] in _OPTIONS_WITH_VALUE else words[1:]
        if words[:1] == ["-m"]:
            return Started(" ".join(words[:2]), "", tuple(words[2:]))
    if not words:
        return Started("", "", ())
    folder, _, name = words[0].rpartition("/")
    return Started(name, folder, tuple(words[1:]))


def known_server(argv: Sequence[str], directory: Callable[[], str]) -> str | None:
    """
    Return the key in KNOWN of what this command line starts; None: nothing that is known.

    `directory` tells the process's working folder, and is asked only where a script's name alone says too little.
    """
    what = started(argv)
    for key, known in KNOWN.items():
        if any(_fits(each, what, directory) for each in known.programs):
            return key
    return None


def own_port(known: KnownServer, argvs: Iterable[Sequence[str]], listens_on: Iterable[int]) -> int | None:
    """
    Return the port to ask: the one it was told, else its usual one, else its only one.

    None where it does not listen there: other ports of a program may speak no HTTP and take a request badly.
    """
    ports = sorted(set(listens_on))
    lines = [started(argv).words for argv in argvs]
    told = [int(port) for words in lines if (port := option(words, known.port_options)).isdecimal()]
    usual = told or [port for port in ports if port in known.ports]
    if usual:
        return usual[0] if usual[0] in ports else None
    return ports[0] if known.any_port and len(ports) == 1 else None


def with_tls(argv: Sequence[str]) -> bool:
    """Whether it was given a certificate."""
    return bool(option(started(argv).words, _TLS_OPTIONS))


def option(words: Sequence[str], names: Iterable[str]) -> str:
    """Return the value of `--NAME=value` or `--NAME value`; empty where there is none."""
    for name in names:
        for index, word in enumerate(words):
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
            if word == name and index + 1 < len(words):
                return words[index + 1]
    return ""


def _fits(program: Program, what: Started, directory: Callable[[], str]) -> bool:
    if what.run not in program.run and not _is_title(program, what.run):
        return False
    if program.word and what.words[:1] not in [(word,) for word in program.word]:
        return False
    if program.folder is None:
        return True
    where = what.folder if what.folder.startswith("/") else f"{directory()}/{what.folder}"
    return bool(program.folder.search(where))


def _is_title(program: Program, run: str) -> bool:
    """Whether a process that named itself, with a number behind, is meant: `VLLM::APIServer_0`."""
    return any("::" in name and run.startswith(name) for name in program.run)


def _name(path: str) -> str:
    return path.rpartition("/")[2]
