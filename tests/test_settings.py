"""The settings: read, refused, written down."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from idlewatch.errors import SettingsError
from idlewatch.settings import Loaded, Source, known_secrets, load, load_what_fits, secret_variables, settings_record
from idlewatch.settings.files import kind_of_mount, may_hang
from idlewatch.snapshot.mounts import parse_mounts


def told(*, unknown_names_ok: bool = False, **variables: str) -> Loaded:
    return load([Source(name="environment", variables=variables)], unknown_names_ok=unknown_names_ok)


def test_a_misspelt_name_is_refused_or_where_that_is_asked_for_let_pass_with_a_warning() -> None:
    with pytest.raises(SettingsError, match="did you mean IDLEWATCH_IDLE_AFTER"):
        told(IDLEWATCH_IDLE_AFTR="20m")
    passed = told(IDLEWATCH_IDLE_AFTR="20m", IDLEWATCH_WARN_FOR="7m", unknown_names_ok=True)
    assert passed.settings.warn_for.total_seconds() == 420
    (warning,) = passed.warnings
    assert "IDLEWATCH_IDLE_AFTR: there is no such setting; did you mean IDLEWATCH_IDLE_AFTER?" in warning


def test_a_wrong_value_is_refused_also_where_unknown_names_pass() -> None:
    with pytest.raises(SettingsError) as refused:
        told(IDLEWATCH_IDLE_AFTR="20m", IDLEWATCH_WARN_FOR="soon", unknown_names_ok=True)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["IDLEWATCH_WARN_FOR"]


def test_nothing_wrong_is_no_warning() -> None:
    assert told(IDLEWATCH_WARN_FOR="7m").warnings == ()


def test_an_address_for_notices_that_is_none_is_refused_without_quoting_it() -> None:
    with pytest.raises(SettingsError) as refused:
        load([Source(name="environment", variables={"IDLEWATCH_NOTIFY": "SECRET-thing"})])
    assert "IDLEWATCH_NOTIFY" in str(refused.value.problems)
    assert "SECRET" not in str(refused.value.problems)


# ---- secrets that lie in files

KEY = "rpa_0123456789abcdef"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


def test_a_secret_is_read_from_the_file_that_is_named_and_shown_by_its_place(key: Path) -> None:
    found = told(IDLEWATCH_RUNPOD_API_KEY_FILE=str(key))
    assert found.settings.runpod_api_key == SecretStr(KEY)
    assert found.origins["runpod_api_key"] == f"{key} (environment)"
    assert found.shown("runpod_api_key") == "set (hidden)"
    named = Source(name="environment", variables={"IDLEWATCH_RUNPOD_API_KEY_FILE": str(key)})
    assert KEY in known_secrets([named])
    assert KEY not in repr(found) + str(settings_record(found))


@pytest.mark.parametrize("name", sorted(secret_variables()))
def test_every_secret_can_lie_in_a_file_and_nothing_else_can(name: str, tmp_path: Path) -> None:
    key = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
    (tmp_path / "secret").write_text(key if "SNAPSHOT" in name else "https://user:password@example.org/x")
    variables = {f"{name}_FILE": str(tmp_path / "secret"), "IDLEWATCH_PROMQL": "up" if "PROMETHEUS" in name else ""}
    found = load([Source(name="environment", variables=variables)])
    assert found.origins[name.removeprefix("IDLEWATCH_").lower()] == f"{tmp_path / 'secret'} (environment)"
    with pytest.raises(SettingsError, match="there is no such setting"):
        told(IDLEWATCH_VOLUME_FILE=str(tmp_path / "secret"))


def test_a_key_file_as_age_keygen_writes_it_is_read(tmp_path: Path) -> None:
    made = "# created: 2026-11-24T12:00:00Z\n# public key: age1xyz\nAGE-SECRET-KEY-1\n"
    (tmp_path / "key").write_text(made)
    assert told(IDLEWATCH_RUNPOD_API_KEY_FILE=str(tmp_path / "key")).settings.runpod_api_key == SecretStr(
        "AGE-SECRET-KEY-1"
    )


@pytest.mark.parametrize("name", ["IDLEWATCH_SNAPSHOT_KEY", "IDLEWATCH_SNAPSHOT_KEY_FILE"])
def test_a_key_of_snapshots_that_is_set_and_empty_is_refused(name: str) -> None:
    empty = Source(name="environment", variables={name: ""})
    with pytest.raises(SettingsError, match=f"{name} is set and empty"):
        load([empty])
    key = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
    assert load(
        [empty, Source(name="/proc/1/environ", variables={"IDLEWATCH_SNAPSHOT_KEY": key})]
    ).settings.snapshot_key


def test_the_variable_goes_before_its_file_and_the_nearer_place_before_the_other(key: Path) -> None:
    both = told(IDLEWATCH_RUNPOD_API_KEY="own", IDLEWATCH_RUNPOD_API_KEY_FILE="/not/there")
    assert (both.settings.runpod_api_key, both.origins["runpod_api_key"]) == (SecretStr("own"), "environment")
    near = Source(name="environment", variables={"IDLEWATCH_RUNPOD_API_KEY_FILE": str(key)})
    far = Source(name="/proc/1/environ", variables={"IDLEWATCH_RUNPOD_API_KEY": "other"})
    assert load([near, far]).settings.runpod_api_key == SecretStr(KEY)
    assert load([far, near]).settings.runpod_api_key == SecretStr("other")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file or directory"),
        (b"", "there must be one line in it"),
        (f"{KEY}\nmore\n".encode(), "there must be one line in it"),
        (b"\xff\xfe", "there must be one line in it"),
    ],
)
def test_a_file_that_gives_no_secret_is_refused_without_a_word_of_it(
    content: bytes | None, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        told(IDLEWATCH_RUNPOD_API_KEY_FILE=str(path))
    assert refused.value.problems == [
        f"IDLEWATCH_RUNPOD_API_KEY_FILE={path}: {refused.value.problems[0].split(': ')[1]}"
    ]
    assert says in refused.value.problems[0]
    assert KEY not in refused.value.problems[0]


def test_a_pipe_holds_nobody_up_and_a_relative_path_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match="this is no file"):
        told(IDLEWATCH_NOTIFY_FILE=str(tmp_path / "pipe"))
    with pytest.raises(SettingsError, match="write it from / on"):
        told(IDLEWATCH_NOTIFY_FILE="key")


def test_who_may_not_read_it_may_hold_the_pod_all_the_same() -> None:
    found = told(IDLEWATCH_RUNPOD_API_KEY_FILE="/not/there", unknown_names_ok=True)
    assert found.settings.runpod_api_key is None
    assert found.shown("runpod_api_key") == "set (hidden)"
    assert found.warnings == ("IDLEWATCH_RUNPOD_API_KEY_FILE=/not/there: No such file or directory",)


@pytest.mark.parametrize(("kind", "refused"), [("fuse", True), ("nfs4", True), ("ext4", False), ("tmpfs", False)])
def test_where_reading_may_hang_for_good_nothing_is_read(kind: str, *, refused: bool) -> None:
    lines = f"20 1 0:30 / / rw - overlay overlay rw\n30 20 0:40 / /workspace rw - {kind} source rw\n"
    found = kind_of_mount(Path("/workspace/keys/key"), parse_mounts(lines))
    assert (found, may_hang(found)) == (kind, refused)
    assert kind_of_mount(Path("/run/key"), parse_mounts(lines)) == "overlay"


def fitting(*sources: dict[str, str]) -> Loaded:
    return load_what_fits([Source(name=f"source {n}", variables=one) for n, one in enumerate(sources)])


def test_whoever_only_asks_gets_the_next_sources_value_for_one_that_does_not_fit_and_a_warning() -> None:
    found = fitting({"IDLEWATCH_HOLD_MAX": "10"}, {"IDLEWATCH_HOLD_MAX": "3h"}, {"IDLEWATCH_HOLD_MAX": "5h"})
    assert found.settings.hold_max.total_seconds() == 3 * 3600
    assert found.origins["hold_max"] == "source 1"
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("IDLEWATCH_HOLD_MAX: ")
    twice = fitting({"IDLEWATCH_HOLD_MAX": "10"}, {"IDLEWATCH_HOLD_MAX": "10"})
    assert (twice.origins["hold_max"], len(twice.warnings)) == ("default", 1)


def test_of_two_values_that_do_not_fit_together_the_nearer_one_is_left_out() -> None:
    found = fitting({"IDLEWATCH_MAX_UPTIME": "2m"}, {"IDLEWATCH_WARN_FOR": "7m"})
    assert found.settings.warn_for.total_seconds() == 420
    assert found.origins["max_uptime"] == "default"
    assert "IDLEWATCH_MAX_UPTIME=2m leaves no room" in found.warnings[0]
    keyless = fitting({"IDLEWATCH_SAVE_TO": "s3://bucket/prefix"})
    assert keyless.settings.save_to == "volume"
    assert "needs IDLEWATCH_SNAPSHOT_KEY" in keyless.warnings[0]


def test_a_state_folder_that_is_wrong_is_refused_to_everybody() -> None:
    with pytest.raises(SettingsError, match="IDLEWATCH_STATE_DIR"):
        fitting({"IDLEWATCH_STATE_DIR": "run"}, {"IDLEWATCH_STATE_DIR": "/run/right"})
    with pytest.raises(SettingsError, match="lies on IDLEWATCH_VOLUME"):
        fitting({"IDLEWATCH_STATE_DIR": "/workspace/state", "IDLEWATCH_VOLUME": "/workspace"})


def test_a_place_without_a_bucket_is_told_how_to_be_written() -> None:
    with pytest.raises(SettingsError, match="write s3://BUCKET/PREFIX"):
        told(IDLEWATCH_SAVE_TO="s3://")
