"""
Which programs move bytes for a living, which files are half-way there, and which writing proves nothing.

Names are those that the tools use themselves: `.incomplete` huggingface_hub, `.part` wget, curl, yt-dlp and browsers,
`.aria2` aria2, `.crdownload` Chromium, `.dandidownload` dandi, `-partial` Ollama, `.gstmp` gsutil, `._____temp`
ModelScope.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from idlewatch.signals.jobs_programs import Role

if TYPE_CHECKING:
    from idlewatch.signals.jobs_programs import Program

_TOOLS = """
    wget wget2 curl aria2c axel rsync rclone aws s3cmd s5cmd gsutil gcloud azcopy mc scp sftp sftp-server lftp ftp
    ncftp hf huggingface-cli huggingface_hub git-lfs git-remote-https git-remote-http dandi kaggle gdown yt-dlp
    youtube-dl modelscope dvc restic borg duplicity unison croc wormhole runpodctl b2 swift ossutil coscmd oras skopeo
"""
_TOOL_NAMES = frozenset(_TOOLS.split())
_STAYS = frozenset({"mount", "mount2", "nfsmount", "serve", "rcd", "--daemon", "daemon"})
"""With such a word a transfer tool is a service that waits for others."""
_TUNNEL = re.compile(r"-[46AaCfgKkMnqTtvXxYy]*[NRLDW]")
"""Options of ssh(1) for connections without a command."""
_HABITS = frozenset({Role.EDITOR, Role.HOUSE, Role.VIEWER, Role.NOISE, Role.OURS})
"""Their bytes are nobody's transfer: keep-alives, figures, updates, what goes through a tunnel."""

_PARTIAL = re.compile(
    r"\.(incomplete|part|partial|aria2|crdownload|download|filepart|ytdl|gstmp|_____temp)(/[^/]+)?$"
    r"|\.dandidownload/|/\._____temp/|-partial(-\d+)?$|\.part[-_.]?\w{1,8}$"
)
_TRANSCRIPT = re.compile(r"/\.(claude|codex|gemini|cursor|opencode|aider|qwen|goose)[\w.-]*(/.*)?\.(jsonl?|md)$")
_LOG = re.compile(
    r"\.(log|out|err|trace|wandb|pid|lock|history)(\.\d+)?$|/(logs?|journal)/|/events\.out\.tfevents|-(wal|journal)$"
    r"|/var/log/|/dev/|/proc/|/sys/|/memfd:"
)


def is_tool(program: Program) -> bool:
    """Whether it moves bytes and ends when they are moved."""
    if program.words & _TOOL_NAMES:
        return not _STAYS & set(program.command)
    return "@internal-sftp" in " ".join(program.command[:1])


def is_tunnel(program: Program) -> bool:
    """Whether it is an SSH client that only carries the connections of others."""
    return "ssh" in program.words and any(_TUNNEL.match(word) for word in program.command)


def has_habits(program: Program) -> bool:
    """Whether its bytes prove nothing."""
    return program.role in _HABITS


def is_partial(path: str) -> bool:
    """Whether a file is half-way there, by its name."""
    return _PARTIAL.search(path.removesuffix(" (deleted)")) is not None


def is_transcript(path: str) -> bool:
    """Whether an AI coding agent keeps its conversation there."""
    return _TRANSCRIPT.search(path) is not None


def is_log(path: str) -> bool:
    """Whether what is written there proves no work; nor is everything a file that has a path."""
    return not path.startswith("/") or _LOG.search(path) is not None
