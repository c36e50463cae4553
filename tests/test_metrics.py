"""What Prometheus is told: read again with the official client's own parser, and the shipped rules with promtool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from idlewatch.cli import main
from idlewatch.errors import IdlewatchError
from idlewatch.history.store import STATUS_FILE
from idlewatch.model import Json
from idlewatch.show import metrics
from idlewatch.state_folder import only_daemon

SHIPPED = Path(__file__).parents[1] / "docs/monitoring"
STATUS: dict[str, Json] = {
    "at_s": 1000.0,
    "interval_s": 5.0,
    "started_s": 100.0,
    "pod_id": "abc",
    "mode": "stop",
    "phase": "warned",
    "idle_for_s": 1860.0,
    "acts_at_s": 1200.0,
    "holds": [{"who": "ada"}],
    "troubles": {"blind:gpu": "gpu not seen for 15m"},
    "spent_usd": 1.25,
    "usd_per_hour": 2.0,
    "signals": {"gpu": {"activity": "unknown", "read_s": 990.0}, "host": {"activity": "quiet", "read_s": 1000.0}},
}


def told(status: Mapping[str, Json] | None, now_s: float = 1002.0, *, lives: bool = True) -> dict[str, float]:
    """Metric with its labels -> value, as Prometheus reads it."""
    text = metrics.exposition(status, now_s, lives=lives)
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {f"{s.name}{json.dumps(s.labels) if s.labels else ''}": s.value for s in samples}


def test_what_is_true_now_is_told() -> None:
    said = told(STATUS)
    assert said["idlewatch_up"] == 1
    assert (said['idlewatch_phase{"phase": "warned"}'], said['idlewatch_phase{"phase": "watching"}']) == (1, 0)
    assert (said["idlewatch_idle_seconds"], said["idlewatch_acts_in_seconds"]) == (1860, 198)
    assert said['idlewatch_signal_state{"signal": "gpu", "state": "unknown"}'] == 1
    assert said['idlewatch_signal_state{"signal": "gpu", "state": "quiet"}'] == 0
    assert said['idlewatch_signal_age_seconds{"signal": "gpu"}'] == 12
    assert said['idlewatch_trouble{"name": "blind:gpu"}'] == 1
    assert (said["idlewatch_holds"], said["idlewatch_uptime_seconds"]) == (1, 902)
    assert (said["idlewatch_spent_dollars"], said["idlewatch_price_dollars_per_hour"]) == (1.25, 2.0)


@pytest.mark.parametrize("status", [None, STATUS | {"ended": True}, STATUS | {"at_s": 500.0}])
def test_of_a_silent_daemon_nothing_old_is_told_as_true(status: Mapping[str, Json] | None) -> None:
    said = told(status)
    assert said["idlewatch_up"] == 0
    assert not any(name.startswith(("idlewatch_idle", "idlewatch_phase", "idlewatch_signal")) for name in said)


def test_a_daemon_that_was_killed_is_down_at_once_though_it_has_just_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(tmp_path))
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    (tmp_path / STATUS_FILE).write_text(json.dumps(STATUS | {"at_s": now_s, "interval_s": 1000.0}))
    with only_daemon(tmp_path):
        assert main(["metrics"]) == 0
        assert "idlewatch_up 1.0" in capsys.readouterr().out
    assert main(["metrics"]) == 0
    said = capsys.readouterr().out
    assert "idlewatch_up 0.0" in said
    assert "idlewatch_phase" not in said


def test_without_a_price_there_are_no_dollars() -> None:
    said = told(STATUS | {"spent_usd": None, "usd_per_hour": None, "acts_at_s": None})
    assert not any("dollars" in name or "acts_in" in name for name in said)


def test_every_metric_is_documented_and_every_documented_one_is_told() -> None:
    documented = set(re.findall(r"^    (idlewatch_\w+)", metrics.__doc__ or "", re.MULTILINE))
    assert {name.partition("{")[0] for name in told(STATUS)} == documented


def test_no_text_becomes_a_label() -> None:
    assert "not seen for 15m" not in metrics.exposition(STATUS, 1002.0, lives=True)


def test_rules_and_dashboard_ask_only_for_what_is_told() -> None:
    known = {name.partition("{")[0] for name in told(STATUS)}
    asked = "".join(path.read_text() for path in SHIPPED.iterdir())
    assert set(re.findall(r"idlewatch_[a-z_]+", asked)) <= known


class Gateway(BaseHTTPRequestHandler):
    """A Pushgateway as far as a push goes: PUT of the whole group."""

    got: ClassVar[list[tuple[str, bytes]]]

    def do_PUT(self) -> None:
        self.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    class One(Gateway):
        got: ClassVar[list[tuple[str, bytes]]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), One)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", One.got
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_push_replaces_the_pods_group(gateway: tuple[str, list[tuple[str, bytes]]]) -> None:
    address, got = gateway
    metrics.push(STATUS, 1002.0, address, "abc", lives=True)
    assert got[0][0] == "/metrics/job/idlewatch/instance/abc"
    assert b"idlewatch_up 1.0" in got[0][1]


def test_a_gateway_that_is_not_there_is_said_in_one_sentence() -> None:
    with pytest.raises(IdlewatchError, match=r"Pushgateway did not take it .*refused"):
        metrics.push(STATUS, 1002.0, "http://127.0.0.1:9", "abc", lives=True)


# ---------------------------------------------------------------- the real promtool


def promtool(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    assert found, "promtool is missing: apt-get install prometheus"
    return subprocess.run([found, *words], input=given, capture_output=True, text=True, check=False)


@pytest.mark.system
def test_promtool_finds_nothing_to_say_of_the_metrics_and_the_rules() -> None:
    lint = promtool("check", "metrics", given=metrics.exposition(STATUS, 1002.0, lives=True))
    assert (lint.returncode, lint.stderr) == (0, "")
    rules = promtool("check", "rules", str(SHIPPED / "alerts.yml"))
    assert rules.returncode == 0, rules.stderr + rules.stdout


FIRES = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'idlewatch_up{{instance="a", job="i"}}', values: '1 1 0 0 0 0 0'}}
      - {{series: 'idlewatch_trouble{{name="blind:gpu", instance="a", job="i"}}', values: '1x10'}}
      - {{series: 'idlewatch_trouble{{name="STOP NOT CONFIRMED", instance="a", job="i"}}', values: '1x10'}}
      - {{series: 'idlewatch_idle_seconds{{instance="a", job="i"}}', values: '20000x30'}}
      - {{series: 'idlewatch_phase{{phase="watching", instance="a", job="i"}}', values: '1x30'}}
    promql_expr_test:
{expected}
"""


FIRING = {"Silent": "5m", "Blind": "1m", "StopNotConfirmed": "1m", "IdleAndNotStopping": "15m"}
EXPECTED = """\
      - expr: count(ALERTS{{alertname="Idlewatch{name}", alertstate="firing"}})
        eval_time: {at}
        exp_samples: {samples}"""


@pytest.mark.system
def test_the_rules_fire_when_they_must(tmp_path: Path) -> None:
    test = tmp_path / "fires.yml"
    rows = [EXPECTED.format(name=name, at=at, samples="[{value: 1}]") for name, at in FIRING.items()]
    rows.append(EXPECTED.format(name="SaveFailed", at="15m", samples="[]"))
    test.write_text(FIRES.format(rules=SHIPPED / "alerts.yml", expected="\n".join(rows)))
    ran = promtool("test", "rules", str(test))
    assert ran.returncode == 0, ran.stderr + ran.stdout
