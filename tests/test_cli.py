"""The verbs as a person runs them."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from idlewatch.arguments import parser_of_all
from idlewatch.cli import main
from idlewatch.pod.saving import LOGIN_SCRIPT
from idlewatch.settings import Settings, variable


def test_settings_shows_every_setting_and_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IDLEWATCH_IDLE_AFTER", "1h30m")
    monkeypatch.setenv("IDLEWATCH_RUNPOD_API_KEY", "rpa_sekret")
    assert main(["settings", "--json"]) == 0
    out = capsys.readouterr().out
    said = json.loads(out)["settings"]
    assert set(said) == {variable(field) for field in Settings.model_fields}
    assert said["IDLEWATCH_IDLE_AFTER"] == {"value": "1h30m", "from": "environment"}
    assert "sekret" not in out
    assert main(["settings"]) == 0
    assert "sekret" not in capsys.readouterr().out


def test_settings_shows_on_demand_only_what_was_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("IDLEWATCH_WARN_FOR", "3m")
    assert main(["settings", "--changed"]) == 0
    assert capsys.readouterr().out == (
        f"IDLEWATCH_WARN_FOR=3m  (environment)\nIDLEWATCH_STATE_DIR={tmp_path}  (environment)\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("IDLEWATCH_IDLE_AFTR", "30m", "did you mean IDLEWATCH_IDLE_AFTER?"),
        ("IDLEWATCH_IDLE_AFTER", "30", "30m or 30s?"),
        ("IDLEWATCH_WARN_FOR", "0", "at once"),
        ("IDLEWATCH_MAX_UPTIME", "3m", "IDLEWATCH_WARN_FOR"),
        ("IDLEWATCH_BUDGET_USD", "nan", "finite"),
        ("IDLEWATCH_BUDGET_USD", "-2", "greater than or equal to 0"),
        ("IDLEWATCH_MODE", "dry", "observe"),
        ("IDLEWATCH_WORKING_HOURS", "Mon-Fri 9 to 5", "Mon-Fri 09:00-18:00 Europe/Berlin"),
        ("IDLEWATCH_STATE_DIR", "run", "absolute"),
    ],
)
def test_a_wrong_setting_exits_2_naming_the_variable_and_the_remedy(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["settings"]) == 2
    error = capsys.readouterr().err
    assert name in error
    assert says in error


def test_every_verb_leads_to_a_function_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    parsers = next(action for action in parser_of_all()._actions if isinstance(action.choices, dict)).choices
    assert isinstance(parsers, dict)
    targets = {name: parser.get_default("target") for name, parser in parsers.items()}
    for name, target in targets.items():
        module, function = target.split(".")
        assert callable(getattr(import_module(f"idlewatch.verbs.{module}"), function)), name
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert len(capsys.readouterr().out) > 80
    assert {"run", "status", "why", "hold", "holds", "release", "loss", "save", "snapshots", "restore"} < set(targets)


def test_what_a_verb_does_not_have_is_refused_with_its_own_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["stop", "--now"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: idlewatch stop ")
    assert "it has no --now" in said


@pytest.mark.slow
def test_a_replay_of_a_scenario_is_run_by_its_verb(capsys: pytest.CaptureFixture[str]) -> None:
    scenario = Path(__file__).parent / "scenarios" / "F11.toml"
    assert main(["replay", str(scenario), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["replay", str(scenario)]) == 0


def shell_at_login(disk: Path, flags: str = "-i") -> str:
    """What a shell shows that reads the Pod's profile script."""
    told = subprocess.run(["sh", flags, "-c", f". {disk / LOGIN_SCRIPT}"], capture_output=True, text=True, check=True)
    return told.stdout


@pytest.mark.slow
def test_a_daemon_that_refuses_its_settings_leaves_word_in_the_pod_and_on_the_volume(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNPOD_POD_ID", "pod1")
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("IDLEWATCH_VOLUME", str(tmp_path / "volume"))
    monkeypatch.setenv("IDLEWATCH_SAVE_ROOT", str(tmp_path / "disk"))
    monkeypatch.setenv("IDLEWATCH_IDLE_AFTR", "30m")
    monkeypatch.setenv("IDLEWATCH_RUNPOD_API_KEY", "sekret")
    (tmp_path / "disk/etc/profile.d").mkdir(parents=True)
    (tmp_path / "volume").mkdir()
    assert main(["run"]) == 2
    monkeypatch.delenv("IDLEWATCH_IDLE_AFTR")
    assert main(["status"]) == 1
    assert "IDLEWATCH_IDLE_AFTR: there is no such setting" in capsys.readouterr().out
    note = (tmp_path / "volume/.idlewatch/pod1/misconfigured.json").read_text()
    assert "did you mean IDLEWATCH_IDLE_AFTER?" in note
    assert "sekret" not in note + (tmp_path / "state/status.json").read_text()
    shown = shell_at_login(tmp_path / "disk")
    assert "does NOT guard this Pod" in shown
    assert "did you mean IDLEWATCH_IDLE_AFTER?" in shown


@pytest.mark.slow
def test_the_demo_stops_the_simulated_pod_and_brings_every_file_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "Stopped Friday at" in out
    assert "STOP NOT CONFIRMED" not in out
    assert re.search(r"confirmed by this start: a stop was asked for at Fri \d\d:\d\d:\d\d: nothing used", out)
    assert re.search(r"\| idlewatch: the stop is off: gpu: .* > 200 MiB\n", out), "no line is broken in two"
    assert "every one of them, byte for byte" in out


def test_a_state_folder_on_the_volume_is_not_made_there_when_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "volume").mkdir()
    monkeypatch.setenv("RUNPOD_POD_ID", "pod1")
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path / "volume/state"))
    monkeypatch.setenv("IDLEWATCH_VOLUME", str(tmp_path / "volume"))
    monkeypatch.setenv("IDLEWATCH_SAVE_ROOT", str(tmp_path / "disk"))
    assert main(["run"]) == 2
    assert not (tmp_path / "volume/state").exists()
