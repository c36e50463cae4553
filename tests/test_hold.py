"""The hold that a program places: one file that stands alone, and never harms the program."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from idlewatch import hold as hold_module
from idlewatch.hold import NoDaemonError, hold, place, progressed, release
from idlewatch.requests.holds import read_holds

SOURCE = Path(hold_module.__file__)


def boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def files(state: Path) -> list[str]:
    return sorted(path.name for path in (state / "holds").iterdir())


def test_the_file_has_what_the_daemon_reads(tmp_path: Path) -> None:
    before_s = boottime_s()
    path = place("train\x1b[31m\nnight\u202e" + "x" * 300, for_s=60, pid=os.getpid(), who="me\x07", state_dir=tmp_path)
    record = json.loads(path.read_text())
    assert path == tmp_path / "holds" / f"{record['id']}.json"
    assert record["version"] == 1
    assert record["who"] == "me"
    assert record["reason"].startswith("train[31m nightxxx")
    assert record["reason"].endswith("x…")
    assert len(record["reason"]) == 200
    assert before_s <= record["placed_s"] <= boottime_s()
    assert record["until_s"] == record["placed_s"] + 60
    assert record["pid"] == os.getpid()
    stat = Path("/proc/self/stat").read_text()
    assert record["pid_started"] == int(stat[stat.rindex(")") + 1 :].split()[19])


def test_the_daemon_sees_it_until_it_is_released(tmp_path: Path) -> None:
    with hold("work", state_dir=tmp_path) as path:
        seen = read_holds(tmp_path, boottime_s(), hold_max_s=10**6)
        assert [(each.reason, each.pid) for each in seen.active] == [("work", os.getpid())]
        assert seen.active[0].until_s - boottime_s() == pytest.approx(24 * 3600, abs=300)
        assert not seen.unreadable
    assert path is not None
    assert files(tmp_path) == []
    release(path)


def test_an_unbound_hold_names_no_process_and_lasts_its_time(tmp_path: Path) -> None:
    record = json.loads(place("2h", for_s=7200, state_dir=tmp_path).read_text())
    assert (record["pid"], record["pid_started"]) == (None, None)
    assert record["until_s"] == record["placed_s"] + 7200


def test_the_block_is_released_also_when_it_fails(tmp_path: Path) -> None:
    block = hold("work", state_dir=tmp_path)
    block.__enter__()
    assert len(files(tmp_path)) == 1
    error = KeyError("the work")
    assert not block.__exit__(KeyError, error, None)
    assert files(tmp_path) == []


@pytest.mark.slow
def test_a_forked_child_that_leaves_the_block_keeps_its_parents_hold(tmp_path: Path) -> None:
    program = (
        "import os, sys\nsys.path.insert(0, sys.argv[1])\nfrom hold import hold\n"
        "with hold('work', state_dir=sys.argv[2]):\n"
        "    child = os.fork()\n"
        "    if child: os.waitpid(child, 0); print(len(os.listdir(sys.argv[2] + '/holds')))\n"
    )
    shutil.copy(SOURCE, tmp_path / "hold.py")
    done = run(program, str(tmp_path), str(tmp_path))
    assert done.stdout == "1\n"
    assert files(tmp_path) == []


def test_place_says_that_there_is_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(NoDaemonError, match="no idlewatch daemon runs here"):
        place("work", for_s=60, state_dir=tmp_path / "none")
    assert issubclass(NoDaemonError, OSError)
    assert not (tmp_path / "none").exists()


def test_the_block_goes_on_without_a_daemon_and_says_so_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hold_module._warned.clear()
    for _ in range(3):
        with hold("work", state_dir=tmp_path / "none") as path:
            assert path is None
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert f"the Pod may be stopped when it looks idle: {tmp_path}/none: no idlewatch daemon runs here" in said


def test_the_block_goes_on_where_the_folder_takes_no_file(tmp_path: Path) -> None:
    (tmp_path / "holds").write_text("a file where the folder should be")
    with hold("work", state_dir=tmp_path) as path:
        assert path is None


def test_a_process_that_is_not_there_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ProcessLookupError):
        place("work", for_s=60, pid=2**22 + 1, state_dir=tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize("for_s", [0, -1, float("nan"), float("inf")])
def test_a_hold_without_an_end_is_refused(tmp_path: Path, for_s: float) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        place("work", for_s=for_s, state_dir=tmp_path)
    with pytest.raises(ValueError, match="positive number of seconds"), hold("work", for_s, tmp_path):
        pass


def test_no_draft_is_left_where_the_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        place("work", for_s=60, state_dir=tmp_path)
    assert files(tmp_path) == []


# Standing alone.


def run(program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **more}
    command = [sys.executable, "-I", "-W", "error", "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd="/")


def test_a_copy_works_without_the_package_and_finds_the_daemons_folder(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "state").mkdir()
    shutil.copy(SOURCE, tmp_path / "lib" / "hold.py")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from hold import hold\n"
        "assert not any(name.split('.')[0] == 'idlewatch' for name in sys.modules)\n"
        "with hold('from a copy') as path: print(path.read_text())\n"
    )
    done = run(program, str(tmp_path / "lib"), IDLEWATCH_STATE_DIR=str(tmp_path / "state"))
    record = json.loads(done.stdout)
    assert (record["reason"], record["who"], done.stderr) == ("from a copy", "python", "")
    assert files(tmp_path / "state") == []


def test_a_hold_whose_process_has_gone_is_over(tmp_path: Path) -> None:
    (tmp_path / "hold.py").write_text(SOURCE.read_text())
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\nfrom hold import hold\n"
        "with hold('work', state_dir=sys.argv[1]): os._exit(0)\n"
    )
    run(program, str(tmp_path))
    seen = read_holds(tmp_path, boottime_s(), hold_max_s=10**6)
    assert [each.why.startswith("its process") for each in seen.ended] == [True]
    assert not seen.active


def test_it_reads_as_python_3_9_and_imports_only_the_standard_library() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
    assert "dataclasses" not in names


def test_progress_is_written_now_and_then_however_often_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place("work", for_s=600, progress_within_s=60, state_dir=tmp_path)
    placed = json.loads(path.read_text())
    progressed(path)
    first = json.loads(path.read_text())
    assert first["progress_s"] > placed["progress_s"]
    progressed(path)
    assert json.loads(path.read_text()) == first
    monkeypatch.setattr(hold_module, "PROGRESS_EVERY_S", 0.0)
    progressed(path)
    later = json.loads(path.read_text())
    assert later["progress_s"] > first["progress_s"]
    assert {**later, "progress_s": 0} == {**placed, "progress_s": 0}
    assert files(tmp_path) == [path.name]


def test_progress_of_a_hold_that_is_gone_or_never_was_is_no_matter(tmp_path: Path) -> None:
    path = place("work", progress_within_s=60, state_dir=tmp_path)
    release(path)
    progressed(path)
    progressed(None)
    assert files(tmp_path) == []
    with pytest.raises(ValueError, match="positive"):
        place("work", progress_within_s=0, state_dir=tmp_path)


def test_who_may_not_place_a_hold_is_told_as_whom_it_can_be_done(tmp_path: Path) -> None:
    denied = PermissionError(13, "Permission denied", f"{tmp_path}/holds/.x.tmp")
    told = hold_module._words(denied)
    assert told == f"{tmp_path}/holds/.x.tmp: Permission denied; run this as root, or as the daemon's user"
    assert hold_module._words(AttributeError("no CLOCK_BOOTTIME")) == "no CLOCK_BOOTTIME"
