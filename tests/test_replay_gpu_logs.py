"""What others logged of GPUs is understood, judged, and set against itself under other settings."""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from idlewatch.errors import SettingsError
from idlewatch.model import Action, Decision
from idlewatch.replay import BadFile, Lived, Look, Story, gpu_csv, gpu_log, read_story
from idlewatch.replay.comparison import Outcome, outcome
from idlewatch.signals import SIGNALS
from idlewatch.verbs.replaying import replay, variables_in

BEGAN = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
HOUR = 3600
HEAD = "timestamp, index, utilization.gpu [%], memory.used [MiB], power.draw [W]"
Spans = Sequence[tuple[float, float]]
"""Minutes, and what the GPU's utilization was in them."""


@pytest.fixture(autouse=True)
def own_logs() -> Any:
    """A replay silences the daemon for its process; here that ends with the test."""
    yield
    structlog.reset_defaults()


def samples(spans: Spans, every_s: float) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    end_s = 0.0
    for minutes, percent in spans:
        end_s += 60 * minutes
        while len(found) * every_s < end_s:
            found.append((len(found) * every_s, percent))
    return found


def smi(folder: Path, spans: Spans, every_s: float = 10.0, gpus: int = 1, name: str = "smi.csv") -> Path:
    """As `nvidia-smi -l` writes it; with several GPUs only the last one works."""
    lines = [HEAD]
    for at_s, percent in samples(spans, every_s):
        at = f"{BEGAN + timedelta(seconds=at_s):%Y/%m/%d %H:%M:%S}.250"
        told = [percent if index == gpus - 1 else 0 for index in range(gpus)]
        lines += [f"{at}, {index}, {pct:g} %, 1800 MiB, {90 + pct:.2f} W" for index, pct in enumerate(told)]
    return written(folder / name, lines)


def written(path: Path, lines: Sequence[str]) -> Path:
    text = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def told(path: Path) -> Story:
    return read_story(path, tuple(SIGNALS))


def relived(story: Story, **overrides: str) -> Lived:
    return story.relived(story.loaded({f"IDLEWATCH_{name.upper()}": one for name, one in overrides.items()}), SIGNALS)


def stops(path: Path, **overrides: str) -> list[int]:
    """Minutes from the beginning to each stop."""
    return [round((at_s - gpu_log.STARTED_S) / 60) for at_s in relived(told(path), **overrides).when(Action.STOP)]


IDLE_AFTER_WORK: Spans = ((30, 80), (90, 0), (30, 80))
STOPPED = [65, 66]
"""30 min of work, 30 min of quiet, 5 min of warning, and the last look."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "gpu.log"])
def test_a_log_of_nvidia_smi_is_judged(tmp_path: Path, name: str) -> None:
    path = smi(tmp_path, IDLE_AFTER_WORK, name=name)
    story = told(path)
    assert (story.title, story.signals, story.recorded) == ("log of nvidia-smi of 1 GPU", ("gpu",), True)
    assert timedelta(0) <= story.life.wall(story.life.started_s) - BEGAN <= timedelta(seconds=15)
    assert stops(path)[0] in STOPPED
    assert len(stops(path)) == 1
    assert stops(path, idle_after="2h") == []


def test_one_gpu_of_several_at_work_keeps_the_pod_and_its_numbers_are_kept(tmp_path: Path) -> None:
    path = smi(tmp_path, [(120, 60)], gpus=4)
    again = relived(told(path))
    assert again.when(Action.WARN) == []
    assert {look.decisive for look in again.looks} == {"gpu: gpu3 utilization 60 % > 3 %"}


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("t_s,gpu,util_pct,power_w,mem_used_mib", "{s:g},0,{pct:g},{w:g},1800"),
        ("time;utilization;power", "{iso};{pct:g};{w:g}"),
        ("epoch\tutil", "{epoch:.0f}\t{pct:g}"),
        ("Timestamp,GPU_Util (%)", "{millis:.0f},{pct:g}"),
    ],
)
def test_tables_of_other_names_times_and_delimiters(tmp_path: Path, head: str, row: str) -> None:
    lines = [head]
    for at_s, pct in samples(IDLE_AFTER_WORK, 15):
        at = BEGAN + timedelta(seconds=at_s)
        epoch = at.timestamp()
        lines.append(row.format(s=at_s, pct=pct, w=90 + pct, iso=at.isoformat(), epoch=epoch, millis=epoch * 1000))
    path = written(tmp_path / "x.csv", lines)
    assert stops(path)[0] in STOPPED
    assert told(path).life.wall(gpu_log.STARTED_S) in {BEGAN, datetime(2026, 1, 1, tzinfo=UTC)}


def series(spans: Spans, metric: str, times: float = 1.0, gpu: str = "0") -> dict[str, Any]:
    labels = {"__name__": metric, "gpu": gpu, "Hostname": "a"}
    return {
        "metric": labels,
        "values": [[BEGAN.timestamp() + s, str(p * times)] for s, p in samples(spans, 15)],
    }


def test_what_prometheus_answers_is_judged(tmp_path: Path) -> None:
    result = [series(IDLE_AFTER_WORK, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.01), series([(150, 0)], "other_metric")]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    path = written(tmp_path / "answer.json", [json.dumps(answer)])
    assert told(path).title == "export of Prometheus of 1 GPU"
    assert stops(path)[0] in STOPPED


@pytest.mark.parametrize(
    "row",
    [
        'DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="GPU-a"}} {pct:g} {s:.0f}',
        '{{__name__="DCGM_FI_DEV_GPU_UTIL", UUID="GPU-a"}} {pct:g} {ms:.0f}',
    ],
)
def test_what_promtool_dumps_is_judged(tmp_path: Path, row: str) -> None:
    lines = ["# TYPE DCGM_FI_DEV_GPU_UTIL gauge"] if row.startswith("D") else []
    for at_s, pct in samples(IDLE_AFTER_WORK, 15):
        s = BEGAN.timestamp() + at_s
        lines.append(row.format(pct=pct, s=s, ms=s * 1000))
    path = written(tmp_path / "dump.txt", lines)
    assert stops(path)[0] in STOPPED
    assert told(path).life.wall(gpu_log.STARTED_S) == BEGAN


def test_what_is_no_number_is_not_known_and_never_rest(tmp_path: Path) -> None:
    path = smi(tmp_path, [(120, 0)])
    path.write_text(path.read_text().replace("0 %, 1800", "[Unknown Error], 1800"))
    again = relived(told(path))
    assert {look.pod for look in again.looks} == {"unknown"}
    assert again.when(Action.WARN) == []


def test_where_nothing_was_logged_nobody_looked(tmp_path: Path) -> None:
    lines = smi(tmp_path, [(10, 80), (120, 0)]).read_text().splitlines()
    path = written(tmp_path / "hole.csv", [*lines[: 1 + 6 * 20], *lines[1 + 6 * 60 :]])
    assert len(told(path).life.asleep) == 1
    assert stops(path) == [96], "what was quiet before the hole is forgotten after it"


def test_a_log_that_was_begun_again_repeats_its_names(tmp_path: Path) -> None:
    lines = smi(tmp_path, IDLE_AFTER_WORK).read_text().splitlines()
    path = written(tmp_path / "two.csv", [*lines[:100], HEAD, "", *lines[100:]])
    assert stops(path)[0] in STOPPED


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([HEAD, "yesterday, 0, 5 %, 1 MiB, 1 W"], ":2: 'yesterday' is no time"),
        ([HEAD, "2026/11/02 08:00:00, 0"], ":2: it has fewer columns"),
        (
            [HEAD, "2026/11/02 08:00:30, 0, 5 %, 1 MiB, 1 W", "2026/11/02 08:00:01, 0, 5 %, 1 MiB, 1 W"],
            ":3: its time goes back",
        ),
        ([HEAD, "2026/11/02 08:00:00, 0, 180 %, 1 MiB, 1 W"], ":2: utilization: 180 is no utilization in percent"),
        (["t_s,util", "0,5", "15,-3", "30,5"], ":3: utilization: -3 is no utilization in percent"),
        ([HEAD], "it has no sample"),
        (["a,b", "1,2"], ":1: a table of GPU samples begins with a line of names"),
        ([""], ":1: it is empty"),
        (
            [HEAD, *["2026/11/02 08:00:00, 0, 5 %, 1 MiB, 1 W"] * 3, "junk", "2026/11/02 08:00:00, 0, 5 %, 1 MiB, 1 W"],
            ":5: 'junk' is no time",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_told_with_its_line(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(BadFile) as found:
        told(written(tmp_path / "bad.csv", lines))
    assert words in str(found.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_log_from_windows_is_read(tmp_path: Path, encoding: str) -> None:
    text = smi(tmp_path, IDLE_AFTER_WORK).read_text().replace("\n", "\r\n")
    for name, packed in (("win.csv", False), ("win.csv.gz", True)):
        path, whole = tmp_path / name, text.encode(encoding)
        path.write_bytes(gzip.compress(whole) if packed else whole)
        assert stops(path)[0] in STOPPED


def test_decimal_commas_are_numbers(tmp_path: Path) -> None:
    lines = [f"1762070400,5;{percent}" for percent in ("80,5", "0,0")]
    assert list(gpu_csv.read_table(written(tmp_path / "x.csv", ["t_s;util", *lines])).packer.gpus["0"].highest) == [
        80.5
    ]


def test_a_torn_last_line_is_left_out_and_told_and_no_other_is(tmp_path: Path) -> None:
    lines = smi(tmp_path, IDLE_AFTER_WORK).read_text().splitlines()
    torn = told(written(tmp_path / "torn.csv", [*lines, lines[-1][:21]]))
    assert torn.notes[-1] == "the last line is torn, and was left out"
    assert "torn" not in "".join(told(written(tmp_path / "whole.csv", lines)).notes)


def test_shares_that_were_read_as_percent_are_told(tmp_path: Path) -> None:
    def notes(*values: str) -> str:
        rows = [f"{1762070400 + 20 * at},{value}" for at, value in enumerate(values)]
        return " ".join(told(written(tmp_path / "x.csv", ["t_s,util", *rows])).notes)

    assert "multiply them by 100" in notes("0.8", "0", "1")
    assert "multiply" not in notes("0", "1", "0")
    assert "multiply" not in notes("0.8", "35")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"status":"error","errorType":"bad_data","error":"no such thing"}', "refused the query: no such thing"),
        ('{"data":{"resultType":"matrix","result":[', ":2: its JSON is cut off"),
        ('{"data":{"resultType":"scalar","result":[1,"3"]}}', "no series with their values"),
        ('a{gpu="0"} 1 1762070400\na{gpu="0"} x y', ":2: no value or no time of a sample"),
        ('DCGM_FI_DEV_GPU_UTIL{gpu="0"} 180 1762070400', ":1: utilization: 180 is no utilization in percent"),
        ('nvidia_smi_utilization_gpu_ratio{gpu="0"} -0.03 1762070400', ":1: utilization: -3 is no utilization"),
        ("words", ":1: it is no recording, no table"),
        ("{}", "a recording begins with"),
    ],
)
def test_what_is_wrong_with_another_file_is_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadFile) as found:
        told(written(tmp_path / "x.json", [text]))
    assert words in str(found.value)
    assert "codec" not in str(found.value)


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    for name in ("x.csv", "x.json"):
        (tmp_path / name).write_bytes(bytes(range(256)))
        with pytest.raises(BadFile, match=":1: it is no text in UTF-8"):
            told(tmp_path / name)


def test_an_export_without_gpus_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "up.txt", ['up{job="x"} 1 1762070400', 'up{job="x"} 1 1762070415'])
    with pytest.raises(BadFile, match="no series named DCGM_FI_DEV_GPU_UTIL"):
        told(path)


@pytest.mark.slow
def test_a_long_log_is_decided_at_fewer_instants_and_stopped_just_the_same(tmp_path: Path) -> None:
    days: Spans = [(6 * 60, 90), (5 * 60, 0), (7, 40), (24, 0), (3, 9), (5 * 60 + 26, 0)] * 10
    path = smi(tmp_path, days, every_s=60.0)
    story = told(path)
    assert story.variables == {"IDLEWATCH_INTERVAL": "60s"}
    every = replace(story, life=replace(story.life, instants=()))
    assert len(relived(story).looks) < 0.6 * len(relived(every).looks)
    assert relived(story).when(Action.STOP) == relived(every).when(Action.STOP)
    assert len(relived(story).when(Action.STOP)) == 20


def test_a_tick_holds_its_highest_next_and_mean_sample_and_covers_only_what_was_seen(tmp_path: Path) -> None:
    rows = [(0, 10, 60), (5, 90, 90), (10, 50, 120), (15, 0, 60), (600, 20, 60), (605, 30, 60)]
    path = written(tmp_path / "x.csv", ["t_s,util,power_w,mem_used_mib", *(f"{s},{pct},{w},7" for s, pct, w in rows)])
    told_of = list(told(path).life.readings)
    gpus: list[Any] = [reading.facts["gpus"] for reading in told_of]
    names = ("util_max_pct", "util_second_pct", "util_mean_pct", "samples", "power_mean_w", "mem_used_mib")
    assert [gpu_log.STARTED_S - 10 + s for s in (10, 15, 605)] == [reading.at_s for reading in told_of]
    assert [gpus[0][0][name] for name in names] == [90, 50, 50, 3, 90, 7]
    assert [gpus[1][0][name] for name in names] == [0, None, 0, 1, 60, 7]
    assert [gpus[2][0][name] for name in names] == [30, 20, 25, 2, 60, 7]
    assert [reading.covers_s for reading in told_of] == [5, 5, 5]
    assert all(gpu["instant"] for [gpu] in gpus)


# ---------------------------------------------------------------- compared


def compare(capsys: pytest.CaptureFixture[str], files: Sequence[Path], *envs: Path, **more: Any) -> str:
    options = {"file": [str(f) for f in files], "json": False, "set": [], "usd_per_hour": None}
    assert replay(argparse.Namespace(**{**options, "compare": [str(env) for env in envs], **more}))
    return capsys.readouterr().out


@pytest.mark.slow
def test_two_settings_are_compared_in_money_and_in_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = smi(tmp_path, [(30, 80), (25, 0), (30, 80), (62, 0), (30, 80), (300, 0), (10, 80)])
    calm = written(tmp_path / "calm.env", ["IDLEWATCH_IDLE_AFTER=30m", "IDLEWATCH_USD_PER_HOUR=2"])
    keen = written(tmp_path / "keen.env", ["# shorter", "", 'export IDLEWATCH_IDLE_AFTER="12m"'])
    text = compare(capsys, [path], calm, keen)
    assert text.startswith("8h 6m under two settings:")
    assert "$" in text.splitlines()[2]
    assert "keen.env would have saved $" in text
    assert "more, and stopped the Pod once more while you were working and as often within the hour" in text
    priced = json.loads(compare(capsys, [path], calm, keen, json=True, usd_per_hour=20.0))
    by_name = {one["settings"]: one for one in priced["compared"]}
    assert by_name[str(calm)]["stops"] == 2
    assert by_name[str(keen)]["stops"] == 3
    assert by_name[str(keen)]["stops_while_working"] == 1
    assert by_name[str(calm)]["saved_usd"] == pytest.approx(by_name[str(calm)]["saved_s"] / 3600 * 20)


def test_settings_written_on_windows_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_bytes(b"\xef\xbb\xbfIDLEWATCH_IDLE_AFTER = 20m\r\n\r\n# one more\r\n")
    assert variables_in(str(tmp_path / "a.env")) == {"IDLEWATCH_IDLE_AFTER": "20m"}
    (tmp_path / "b.env").write_bytes(b"\xff\xfeI\x00")
    with pytest.raises(SettingsError, match=r"b\.env: it is no text in UTF-8"):
        variables_in(str(tmp_path / "b.env"))


def test_the_same_settings_do_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = written(tmp_path / "a.env", ["IDLEWATCH_IDLE_AFTER=20m"])
    text = compare(capsys, [smi(tmp_path, IDLE_AFTER_WORK)], env, env)
    assert "Both would have done the same." in text
    assert "$" not in text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("IDLEWATCH_NONSENSE", "b.env: IDLEWATCH_NONSENSE: write NAME=VALUE"),
        ("PATH=/bin", "b.env: PATH: there is no"),
        ("IDLEWATCH_IDLE_AFTER=soon", "b.env: IDLEWATCH_IDLE_AFTER: 'soon' is not a duration"),
    ],
)
def test_a_wrong_file_of_settings_is_named(tmp_path: Path, line: str, words: str) -> None:
    bad, path = written(tmp_path / "b.env", [line]), smi(tmp_path, [(1, 0)])
    options = {"file": [str(path)], "json": False, "set": [], "usd_per_hour": None}
    with pytest.raises(SettingsError) as found:
        replay(argparse.Namespace(**options, compare=[str(bad), str(bad)]))
    assert words in str(found.value)


def test_a_stop_saves_until_it_is_used_again() -> None:
    looks = [
        Look(at_s=at_s, pod="active" if at_s in {700.0, 5000.0} else "idle", verdicts={}, decisive="", said="")
        for at_s in (0.0, 100.0, 700.0, 2000.0, 5000.0, 9000.0)
    ]
    stop = Decision(action=Action.STOP, reason="")
    lived = Lived(looks=looks, decisions=[(100.0, stop), (2000.0, stop), (9000.0, stop)])
    assert outcome(lived, 10_000.0) == Outcome(stops=3, saved_s=600 + 3000 + 1000, working=1, too_soon=1)
