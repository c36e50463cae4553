"""
Command lines as they may be written down: without what is known to be secret here, and without what looks like it.

A secret on a command line can't be told for certain. Masked is what stands behind a name of one (`--api-key X`,
`HF_TOKEN=X`, `Authorization: Bearer X`), a password in an address, and what begins as keys of known services do.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from idlewatch.redact import MASK, is_secret_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MOST_CHARS: Final = 2000
_NAMED: Final = re.compile(
    r"""(?<![\w-])(-{0,2}[A-Za-z][\w-]*)(["']?\s*[=:]\s*["']?(?:(?:Bearer|Basic|Token)\s+)?)([^\s"',;&]+)"""
)
_OPTION: Final = re.compile(r"""(?<![\w-])(--?[A-Za-z][\w-]*)(\s+["']?)([^\s"'-][^\s"']*)""")
_IN_ADDRESS: Final = re.compile(r"(://)[^/\s@]+(@)")
_SCHEME: Final = re.compile(r"(\b(?:Bearer|Basic)\s+)\S+", re.IGNORECASE)
_KEYS: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_|sk-|rpa_|gh[opsu]_|github_pat_|glpat-|xox[a-z]-|AKIA|AGE-SECRET-KEY-)[\w-]{10,}"
)
"""How keys begin, by their makers' documentation: Hugging Face, OpenAI and its like, RunPod, GitHub, GitLab, …"""


def command_line(argv: Sequence[str], clean: Callable[[str], str]) -> str:
    """Return it as a shell would take it, masked; `clean` takes out what is known to be secret here."""
    words: list[str] = []
    hidden = False
    for word in map(_cut, map(clean, argv)):
        words.append(MASK if hidden and not word.startswith("-") and _fits(word) else _masked(word))
        hidden = word.startswith("-") and "=" not in word and _is_secret(word)
    return _cut(clean(shlex.join(words)))


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]} …"


def _masked(word: str) -> str:
    word = _IN_ADDRESS.sub(rf"\1{MASK}\2", word)
    for pattern in (_NAMED, _OPTION):
        word = pattern.sub(lambda found: found[1] + found[2] + (MASK if _hides(found) else found[3]), word)
    return _KEYS.sub(MASK, _SCHEME.sub(rf"\1{MASK}", word))


def _hides(found: re.Match[str]) -> bool:
    header = found[1].upper() in {"AUTHORIZATION", "COOKIE"}
    return header or (_is_secret(found[1]) and _fits(found[3]))


def _is_secret(name: str) -> bool:
    return is_secret_name(name.lstrip("-").replace("-", "_"))


def _fits(value: str) -> bool:
    """Numbers (`--max-token 5`) and paths (`--ssh-key /x`) are no secrets."""
    return bool(value) and not value.isdigit() and not value.startswith(("/", "~", "./"))
