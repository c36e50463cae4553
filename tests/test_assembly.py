"""What is put together from the settings."""

from __future__ import annotations

from pathlib import Path

from idlewatch import assembly
from idlewatch.settings import Source, load, settings_record
from idlewatch.signals import SIGNALS
from idlewatch.signals.host import HostSignal


def here(**variables: str) -> assembly.Assembly:
    return assembly.assembled(load([Source(name="environment", variables=variables)]))


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
