"""
A real Prometheus and a real Pushgateway over a real daemon and its page: alerts come and go, the dashboard is full.

Needs Debian's `prometheus` and `prometheus-pushgateway`, and `grafana-foundation-sdk` from the package index: Grafana
itself is in no Debian, so its dashboard is held against the types that Grafana generates from its own schema.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from idlewatch import hold
from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.settings import environment_with
from idlewatch.web.keys import keys_of
from tests.blind_daemon import BLINDFOLD
from tests.test_metrics import SHIPPED
from tests.waiting import comes
from tests.web_process import Served, free_port, served
from tests.whole_path import POD_ID, Place, simulated

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

WITHIN_S = 90.0
BLIND_DAEMON = (str(Path(__file__).parent / "blind_daemon.py"),)
SOONER = {"for: 2m": "for: 1s", "for: 10m": "for: 1s", "3 * 3600": "1"}
"""The shipped rules, but for how long they wait."""
QUICK = {
    "IDLEWATCH_IDLE_AFTER": "3s",
    "IDLEWATCH_WARN_FOR": "5s",
    "IDLEWATCH_INTERVAL": "0.5s",
    "IDLEWATCH_BLIND_LIMIT": "2s",
}
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: idlewatch
    authorization: {{credentials_file: {token}}}
    static_configs: [{{targets: ["127.0.0.1:{page}"]}}]
  - job_name: pushgateway
    honor_labels: true
    static_configs: [{{targets: ["127.0.0.1:{gateway}"]}}]
"""


def asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310  (loopback)
        return json.load(answer)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310  (loopback)
            return True
    except (OSError, urllib.error.HTTPError):
        return False


@contextmanager
def running(command: Sequence[str], ready: str, folder: Path) -> Iterator[None]:
    """A server until the end of the block."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("wb") as file:
        server = subprocess.Popen(list(command), cwd=folder, stdout=file, stderr=file)
        try:
            assert comes(lambda: server.poll() is not None or is_ready(ready), WITHIN_S)
            assert server.poll() is None, log.read_text()
            yield
        finally:
            server.kill()
            server.wait()


@dataclass(frozen=True)
class Monitored:
    """A Pod, and what looks at it."""

    pod: Place
    page: Served
    prometheus: str
    gateway: str

    def push(self) -> None:
        given = {"IDLEWATCH_STATE_DIR": str(self.pod.state_dir), "RUNPOD_POD_ID": POD_ID}
        command = [sys.executable, "-m", "idlewatch", "metrics", "--push", self.gateway]
        subprocess.run(command, env=environment_with(given), check=True, capture_output=True, timeout=60)

    def found(self, query: str) -> list[Mapping[str, str]]:
        """The labels of each series that a query has now."""
        address = f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        return [one["metric"] for one in asked(address)["data"]["result"]]

    def found_since(self, query: str, began_s: float) -> list[Mapping[str, str]]:
        """The same of the time since then, as a panel draws it."""
        given = {"query": query, "start": began_s, "end": time.time(), "step": 1}
        address = f"{self.prometheus}/api/v1/query_range?{urllib.parse.urlencode(given)}"
        return [one["metric"] for one in asked(address)["data"]["result"]]

    def instances(self, alert: str) -> set[str]:
        """Where an alert fires."""
        query = f'ALERTS{{alertname="Idlewatch{alert}", alertstate="firing"}}'
        return {one["instance"] for one in self.found(query)}

    def until(self, what: Callable[[], bool]) -> None:
        """Push what is true now again and again, as a Pod does, until `what` came true."""

        def came() -> bool:
            self.push()
            return what()

        assert comes(came, WITHIN_S), (self.pod.status(), self.found("ALERTS"), self.found("idlewatch_up"))

    def fires(self, alert: str) -> None:
        both = {f"127.0.0.1:{self.page.port}", POD_ID}
        self.until(lambda: self.instances(alert) == both)

    def resolves(self, alert: str) -> None:
        self.until(lambda: not self.instances(alert))


def sooner(rules: str) -> str:
    for shipped, here in SOONER.items():
        assert shipped in rules
        rules = rules.replace(shipped, here)
    return rules


@pytest.fixture
def monitored(tmp_path: Path) -> Iterator[Monitored]:
    with ExitStack() as stack:
        pod = stack.enter_context(simulated(tmp_path / "pod", LoopbackPod(pod_id=POD_ID)))
        pod.command = BLIND_DAEMON
        pod.settings = {**QUICK}
        (pod.state_dir / BLINDFOLD).touch()
        pod.start()
        page = stack.enter_context(served(pod.state_dir))
        ports = {"page": page.port, "gateway": free_port(), "prometheus": free_port()}
        token, rules, config = tmp_path / "token", tmp_path / "rules.yml", tmp_path / "prometheus.yml"
        token.write_text(keys_of(pod.state_dir).metrics)
        rules.write_text(sooner((SHIPPED / "alerts.yml").read_text()))
        config.write_text(CONFIG.format(rules=rules, token=token, **ports))
        gateway, prometheus = (f"http://127.0.0.1:{ports[name]}" for name in ("gateway", "prometheus"))
        at = f"--web.listen-address=127.0.0.1:{ports['gateway']}"
        stack.enter_context(running(["prometheus-pushgateway", at], f"{gateway}/-/ready", tmp_path))
        words = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
        at = f"--web.listen-address=127.0.0.1:{ports['prometheus']}"
        stack.enter_context(running(["prometheus", *words, at], f"{prometheus}/-/ready", tmp_path))
        yield Monitored(pod, page, prometheus, gateway)


def expressions() -> Iterator[str]:
    """Every query of the dashboard, for all of its instances."""
    panels = json.loads((SHIPPED / "grafana.json").read_text())["panels"]
    for panel in panels:
        for target in panel["targets"]:
            yield target["expr"].replace("$instance", ".*")


def test_a_pods_life_fires_and_resolves_its_alerts_and_fills_the_dashboard(monitored: Monitored) -> None:
    pod, began_s = monitored.pod, time.time()
    monitored.fires("Blind")
    kept = hold.place("a test", for_s=600.0, state_dir=pod.state_dir)
    (pod.state_dir / BLINDFOLD).unlink()
    monitored.resolves("Blind")
    monitored.fires("IdleAndNotStopping")
    hold.release(kept)
    monitored.until(lambda: pod.phase() == "warned" and bool(monitored.found("idlewatch_acts_in_seconds")))
    monitored.fires("StopNotConfirmed")
    monitored.resolves("IdleAndNotStopping")
    pod.daemons[0].terminate()
    pod.daemons[0].wait(WITHIN_S)
    monitored.fires("Silent")
    monitored.resolves("StopNotConfirmed")
    pod.start()
    monitored.resolves("Silent")
    assert monitored.found("push_time_seconds")
    empty = [query for query in expressions() if not monitored.found_since(query, began_s)]
    assert empty == []
    names = f"label_values: {[one['instance'] for one in monitored.found('idlewatch_up')]}"
    assert POD_ID in names, "a pushed Pod must be among those that the dashboard lets choose"


def test_a_pod_that_pushes_no_more_is_told(monitored: Monitored) -> None:
    monitored.push()
    rule = next(
        line.partition("expr: ")[2]
        for line in (SHIPPED / "alerts.yml").read_text().splitlines()
        if "push_time_seconds" in line
    )
    assert comes(lambda: bool(monitored.found("push_time_seconds")), WITHIN_S)
    assert monitored.found(rule) == []
    old = rule.replace("> 900", "> 1")
    assert old != rule
    assert comes(lambda: [one["instance"] for one in monitored.found(old)] == [POD_ID], WITHIN_S)


ROUND_TRIP = """
    import json, sys
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard
    plugins.register_default_plugins()
    print(JSONEncoder().encode(Dashboard.from_json(json.load(sys.stdin))))
"""


def lost(given: Any, kept: Any, at: str = "") -> Iterator[str]:
    """What Grafana's types did not know of, or understood otherwise."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from lost(value, kept[key], f"{at}.{key}") if key in kept else [f"{at}.{key}"]
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{at}[{index}]")
    elif given != kept:
        yield f"{at}: {given!r} became {kept!r}"


@pytest.fixture(scope="module")
def grafana(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Any]:
    """A dashboard through Grafana's own types and back."""
    folder = tmp_path_factory.mktemp("grafana")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin/python")
    install = [python, "-m", "pip", "install", "--quiet", "grafana-foundation-sdk"]
    subprocess.run(install, check=True, timeout=300, capture_output=True)

    def there_and_back(dashboard: Any) -> Any:
        script = textwrap.dedent(ROUND_TRIP)
        done = subprocess.run(
            [python, "-c", script], input=json.dumps(dashboard), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return there_and_back


def test_grafanas_own_types_know_all_of_the_dashboard(grafana: Callable[[Any], Any]) -> None:
    shipped = json.loads((SHIPPED / "grafana.json").read_text())
    assert list(lost(shipped, grafana(shipped))) == []
    shipped["panels"][0]["targets"][0]["exprs"] = "up"
    assert list(lost(shipped, grafana(shipped))) == [".panels[0].targets[0].exprs"], "a misspelt key is found"
