"""What is put together from the settings."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from idlewatch import assembly
from idlewatch.children.tasks import task_starter
from idlewatch.model import Action, Cause, Decision, Json
from idlewatch.pod.assembled import Assembly, assembled
from idlewatch.settings import Source, load, settings_record
from idlewatch.signals import SIGNALS
from idlewatch.signals.host import HostSignal
from idlewatch.web.address import serving
from tests.waiting import comes


def here(**variables: str) -> Assembly:
    return assembled(load([Source(name="environment", variables=variables)]))


def test_auto_takes_every_signal_that_needs_no_setting_in_report_order() -> None:
    names = [signal.name for signal in assembly.signals(here())]
    assert names == [name for name in SIGNALS if name not in ("command", "promql")]
    assert names[:2] == ["gpu", "host"]
    assert [signal.name for signal in assembly.signals(here()) if not signal.refines] == ["gpu", "host"]


def test_the_host_leaves_out_what_the_servers_signal_calls_idle() -> None:
    made = {signal.name: signal for signal in assembly.signals(here())}
    host = made["host"]
    assert isinstance(host, HostSignal)
    assert host.spinning() == frozenset()
    alone = assembly.signals(here(IDLEWATCH_SIGNALS="host"))[0]
    assert isinstance(alone, HostSignal)
    assert alone.spinning() == ()


def test_jupyters_secrets_reach_the_signal_and_neither_the_record_nor_a_repr(tmp_path: Path) -> None:
    place = here(JUPYTER_PASSWORD="hunter2", IDLEWATCH_JUPYTER_TOKEN="sekret", IDLEWATCH_STATE_DIR=str(tmp_path))
    pod = assembly.surroundings(place)
    assert pod.variables["JUPYTER_PASSWORD"] == "hunter2"
    assert pod.variables["IDLEWATCH_JUPYTER_TOKEN"] == "sekret"
    told = repr(pod) + repr(place) + str(settings_record(place.loaded))
    assert "sekret" not in told
    assert "hunter2" not in str(settings_record(place.loaded)) + repr(pod)


@pytest.mark.slow
def test_a_task_imports_nothing_from_the_folder_that_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "idlewatch").mkdir()
    (tmp_path / "idlewatch/__main__.py").write_text("raise SystemExit(3)")
    (tmp_path / "idlewatch/__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    request: Json = {"url": "http://127.0.0.1:1", "query": "up", "within_s": 5}
    task = task_starter()("promql", request, 0.0, 60.0)
    try:
        assert comes(lambda: task.poll(0.0) is not None, 60)
        end = task.poll(0.0)
        assert "can't be asked" in str(end and end.error)
    finally:
        task.end()


def test_a_notice_has_a_link_while_the_page_is_served(tmp_path: Path) -> None:
    place = here(IDLEWATCH_STATE_DIR=str(tmp_path))
    idle = Decision(action=Action.WARN, reason="quiet", cause=Cause.IDLE, acts_at_s=300.0)
    wall = partial(datetime.now, UTC)
    assert assembly.words(place, wall).warning(idle, 0.0).as_json()["keep_link"] is None
    with serving(tmp_path, "https://abc-8990.proxy.runpod.net"):
        link = assembly.words(place, wall).warning(idle, 0.0).as_json()["keep_link"]
    assert str(link).startswith("https://abc-8990.proxy.runpod.net/keep/7200-")


@pytest.mark.parametrize(
    ("told", "name"), [("abc123", "abc123"), ("../../etc", "no-pod"), ("", "no-pod"), ("a/b", "no-pod")]
)
def test_an_odd_id_leads_out_of_no_volume(told: str, name: str) -> None:
    assert here(RUNPOD_POD_ID=told).pod_name == name


def test_notices_that_nothing_here_could_send_are_said_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    place = here(IDLEWATCH_NOTIFY="https://hooks.example/x, ntfy://topic")
    assert assembly.unsendable(place) is None
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert "IDLEWATCH_NOTIFY: ntfy://…: it needs Apprise" in str(assembly.unsendable(place))
    assert assembly.unsendable(here(IDLEWATCH_NOTIFY="https://hooks.example/x")) is None


def test_addresses_that_apprise_does_not_understand_are_said_beforehand_without_secrets() -> None:
    place = here(IDLEWATCH_NOTIFY="ntfy://topic, slak://SECRET/x, slack://SECRET, https://hooks.example/x")
    assert assembly.unsendable(place) == (
        "IDLEWATCH_NOTIFY: slak://…: Apprise knows no slak://, but slack://; "
        "slack://…: Apprise does not understand this address"
    )
