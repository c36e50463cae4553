"""What becomes of the output is no crash; errors in words; the help."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from idlewatch import hold
from idlewatch.arguments import GROUPS, parser_of_all
from idlewatch.cli import _outcome, main
from idlewatch.history.store import status_of
from idlewatch.settings import environment_with
from idlewatch.verbs import output
from idlewatch.verbs.faults import meaning, person, remedy

IDLEWATCH = (sys.executable, "-m", "idlewatch")


def environment(state_dir: Path, **more: str) -> dict[str, str]:
    return environment_with({"IDLEWATCH_STATE_DIR": str(state_dir), **more})


def shell(command: str, state_dir: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`idlewatch` in `command` is this one."""
    program = " ".join(IDLEWATCH)
    return subprocess.run(
        ["sh", "-c", command.replace("idlewatch", program)],
        env=environment(state_dir, **more),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["settings", "--help"])
def test_a_reader_who_has_left_ends_it_quietly_as_a_shell_expects(tmp_path: Path, verb: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:  # noqa: PTH123  (a descriptor)
        done = subprocess.run(
            [*IDLEWATCH, verb], env=environment(tmp_path), stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["settings --json", "demo", "--help"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, verb: str) -> None:
    done = shell(f"idlewatch {verb} > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no space is left" in done.stderr
    assert "Errno" not in done.stderr


@pytest.mark.slow
def test_a_closed_output_is_one_sentence_and_what_was_asked_for_is_done_whole(tmp_path: Path) -> None:
    done = shell("idlewatch hold 1m --reason night >&-", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("idlewatch: the answer can't be written to standard output: it is c")
    assert "Traceback" not in done.stderr
    (placed,) = (tmp_path / "holds").iterdir()
    assert json.loads(placed.read_text())["reason"] == "night"


@pytest.mark.slow
def test_with_nothing_to_say_anything_to_it_still_ends_with_the_right_status(tmp_path: Path) -> None:
    assert shell("idlewatch settings >&- 2>&- <&-", tmp_path).returncode == 1
    assert shell("idlewatch settings >/dev/null 2>&- <&-", tmp_path).returncode == 0
    assert shell("idlewatch release nothing 2>/dev/full", tmp_path).returncode == 3


@pytest.mark.slow
def test_characters_that_the_terminal_cannot_show_are_replaced(tmp_path: Path) -> None:
    hold.place("Müller · fine-tuning", for_s=600, state_dir=tmp_path)
    for encoding in ("ascii", "ascii:strict", "latin-1"):
        done = shell("idlewatch holds", tmp_path, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert "ller" in done.stdout
        assert "fine-tuning" in done.stdout
    assert "M?ller ? fine" in shell("idlewatch holds", tmp_path, PYTHONIOENCODING="ascii").stdout


@pytest.mark.slow
def test_a_daemon_whose_log_nobody_reads_any_more_watches_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    told = environment(tmp_path, IDLEWATCH_INTERVAL="0.1s", RUNPOD_GPU_COUNT="0", IDLEWATCH_SAVE_ROOT=str(tmp_path))
    with open(writing, "wb") as pipe:  # noqa: PTH123  (a descriptor)
        daemon = subprocess.Popen([*IDLEWATCH, "run", "--observe", "--debug"], env=told, stderr=pipe)
    try:
        os.close(reading)
        seen: set[object] = set()
        give_up = time.monotonic() + 60
        while len(seen) < 4:
            assert daemon.poll() is None, "it ended with its log"
            assert time.monotonic() < give_up, "it does not watch"
            seen.add((status_of(tmp_path) or {}).get("at_s"))
            time.sleep(0.02)
        daemon.terminate()
        assert daemon.wait(30) == 0
    finally:
        daemon.kill()
        daemon.wait()


class Broken(io.StringIO):
    """A stream that takes nothing."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    flush = io.StringIO.flush


def test_only_standard_output_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", Broken())
    with output.guarded():
        sys.stderr.write("lost")
        with pytest.raises(output.OutputError, match="Input/output error"):
            sys.stdout.write("missed")
    assert isinstance(sys.stdout, Broken)


# ------------------------------------------------------------------------- errors in words


def test_an_error_of_the_system_that_no_verb_expected_is_one_sentence_with_the_path(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def verb() -> bool:
        raise NotADirectoryError(20, "Not a directory", "/v/x")

    assert _outcome(verb) == 1
    assert capsys.readouterr().err == "idlewatch: /v/x lies below something that is no folder\n"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(2, "No such file or directory", "/a/b"), "/a/b is not there"),
        (OSError(28, "No space left on device", "/a/b"), "no space is left for /a/b; free some and try again"),
        (OSError(28, "No space left on device"), "no space is left; free some and try again"),
        (
            OSError(30, "Read-only file system", b"/a"),
            "/a lies on a file system that can only be read; name another place",
        ),
        (OSError(5, "Input/output error", "/a"), "/a: input/output error"),
        (OSError(5, "Input/output error"), "input/output error"),
        (TimeoutError("late"), "timeouterror"),
    ],
)
def test_an_error_is_told_in_words(error: OSError, says: str) -> None:
    assert meaning(error) == says


def test_what_is_closed_names_whose_it_is() -> None:
    """Asked as another user than root, who is told something else."""
    program = (
        "import os, sys; from pathlib import Path; from idlewatch.verbs.faults import meaning, person\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "error = PermissionError(13, 'Permission denied', '/etc/nothing/here')\n"
        "print(meaning(error), meaning(error, sys.argv[1]), person(), sep='\\n')"
    )
    with tempfile.TemporaryDirectory() as mine:
        if os.geteuid() == 0:
            os.chown(mine, 65534, 65534)
        told = subprocess.run([sys.executable, "-c", program, mine], capture_output=True, text=True, check=True)
    roots, own, name = told.stdout.splitlines()
    assert roots == f"/etc/nothing/here is closed to {name}; run this as root"
    assert own == f"{mine} is closed to its own user {name}; open it with chmod u+rwX"
    assert person(987_654_321) == "user 987654321"


def test_only_what_can_be_helped_has_a_remedy() -> None:
    assert "free some space on the disk of /v first" in str(remedy(OSError(122, "Disk quota exceeded"), Path("/v")))
    assert "/v is closed" in str(remedy(PermissionError(13, "Permission denied"), Path("/v")))
    assert remedy(OSError(5, "Input/output error"), Path("/v")) is None
    assert remedy(None, Path("/v")) is None


# -------------------------------------------------------------------------------- the help


def test_the_help_lists_every_verb_once_in_its_group_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    verbs = parser_of_all().get_default("verbs")
    assert [name for name in verbs if len([line for line in lines if line.startswith(f"  {name} ")]) != 1] == []
    assert not any("_task" in line for line in lines)
    assert [name for group in GROUPS.values() for name in group if name not in verbs] == []
    assert lines[4].startswith("Every day:")
    assert [line.split()[0] for line in lines[5:10]] == ["run", "status", "why", "hold", "stop"]


def test_without_a_verb_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "  run " in said.err
    assert "idlewatch --help" in said.err


@pytest.mark.parametrize(("verb", "says"), [("statsu", "did you mean status?"), ("xyzzy", "idlewatch --help")])
def test_a_misspelt_verb_is_told_the_right_one(verb: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([verb])
    said = capsys.readouterr().err
    assert says in said
    assert "_task" not in said
