"""
What goes wrong with a stop, each case in a Pod with a real daemon, its children, and RunPod's API on loopback.

A story injects, waits for what must come of it, and writes its rows down from what was then to be seen: status,
timeline, volume, log, and what the API was asked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from idlewatch.demo.loopback_api import LoopbackPod, StopEffect
from idlewatch.history.status import mapping, number
from idlewatch.history.store import events_of
from idlewatch.hold import place as hold_file
from idlewatch.settings import environment_with
from idlewatch.snapshot import snapshots
from idlewatch.stopping.notes import LAST_STOP_PAGE, previous_stop, stop_note
from tests.side_by_side import Steps, until
from tests.test_full_disk import born_with
from tests.untrusted import untrusted
from tests.whole_path import KEY, POD_ID, QUIET_DAEMON, Place, proven, simulated

NEVER = {"IDLEWATCH_IDLE_AFTER": "1h"}
STOPS = {"rest_stop", "graphql_stop"}


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    injected: str
    happened: str


Rows = dict[str, Row]


@dataclass
class Pod:
    """A Pod of a story, and what is asked of it again and again."""

    place: Place
    rows: Rows

    def row(self, name: str, injected: str, happened: str) -> None:
        self.rows[name] = Row(injected, happened)

    def put(self, name: str, script: str) -> None:
        """An executable hook."""
        path = self.place.hooks / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def events(self, kind: str) -> list[str]:
        return [str(event["text"]) for event in events_of(self.place.state_dir) if event["kind"] == kind]

    def trouble(self, name: str) -> str:
        return str(mapping(self.place.status().get("troubles")).get(name, ""))

    def stop_calls(self) -> list[int]:
        """What each request for a stop was answered with."""
        return [request.status for request in self.place.api.requests if request.call in STOPS]

    def verb(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        place = self.place
        known = {"IDLEWATCH_STATE_DIR": place.state_dir, "IDLEWATCH_VOLUME": place.volume}
        variables = {name: str(path) for name, path in (known | {"IDLEWATCH_SAVE_ROOT": place.disk}).items()}
        command = [sys.executable, "-m", "idlewatch", *arguments]
        environment = environment_with(variables | {"RUNPOD_POD_ID": POD_ID} | more)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)

    def everything(self) -> str:
        """All that was written and may be shown, the log with it."""
        files = [path for path in self.place.folder.rglob("*") if path.is_file()]
        return "".join(path.read_bytes().decode(errors="replace") for path in files)


def saved_and_stopped(pod: Pod) -> Steps:
    """S11, S13, S19: hooks that fail, work on the disk alone, and the day after."""
    place = pod.place
    place.settings["IDLEWATCH_HOOK_WITHIN"] = "5s"
    pod.put("before-save/10-fails", "exit 4")
    pod.put("before-save/20-hangs", f"echo $$ > {place.folder}/pid; sleep 600")
    (place.disk / "root/only-here.bin").write_bytes(os.urandom(3_000_000))
    loss = pod.verb("loss").stdout
    assert "only-here.bin" in loss or "3.0 MB" in loss, loss
    place.start()
    yield from until(place.stopped)
    failed = pod.events("hook failed")
    assert failed[0] == "before-save/10-fails: exit status 4"
    assert "before-save/20-hangs: not done within 5s, so it was ended" in failed[1]
    assert not Path(f"/proc/{(place.folder / 'pid').read_text().strip()}").exists()
    pod.row("S11", "a hook that exits with 4, one that hangs", f"{'; '.join(failed)}; saved and stopped all the same")
    proven(place)
    assert (place.folder / "back/root/only-here.bin").stat().st_size == 3_000_000
    pod.row("S13", "3 MB that lie only on the container's disk", f"loss told them, {pod.events('save done')[0]}")
    page = (place.volume / f".idlewatch/{POD_ID}/{LAST_STOP_PAGE}").read_text()
    assert "nothing used this Pod" in page
    assert "host: quiet" in page
    pod.row("S19", "the next day nobody knows why", f"{LAST_STOP_PAGE} on the volume: {' '.join(page.split())[:110]} …")


def asked_for_by_a_command_that_fails(pod: Pod) -> Steps:
    """S14, S23."""
    place = pod.place
    place.settings |= NEVER
    leak = f"key {KEY} may not do that"
    place.api.fail("rest_stop", status=503, text=leak)
    place.start()
    yield from until(lambda: place.phase() == "watching")
    held = pod.verb("hold", "--then-stop", "--", "sh", "-c", "exit 3")
    assert held.returncode == 3, held.stderr
    yield from until(place.stopped)
    pod.row("S14", "hold --then-stop -- a command that fails", f"it ended with 3 as the command, then {order(place)}")
    shown = pod.verb("status").stdout + pod.verb("history").stdout + pod.verb("why").stdout
    assert pod.stop_calls() == [503, 200]
    assert KEY not in pod.everything() + shown
    pod.row(
        "S23", f"an error of the API that quotes the key, and {len(shown)} characters of verbs", "the key is nowhere"
    )


def the_api_fails_once(pod: Pod) -> Steps:
    """S1, S9."""
    place = pod.place
    place.api.fail("rest_stop", status=503)
    place.api.fail("graphql_stop", kind="errors")
    place.start()
    yield from until(lambda: "stop failed" in place.kinds())
    assert not place.stopped()
    failed, (rest, graphql) = pod.events("stop failed")[0], pod.stop_calls()
    assert (rest, graphql) == (503, 200)
    yield from until(lambda: "tried again in" in str(place.status()["reason"]))
    waits = str(place.status()["reason"])
    yield from until(place.stopped)
    again = place.kinds()[place.kinds().index("stop failed") + 1 :]
    assert "stop" in again
    pod.row("S1", "HTTP 503 to the stop", f"watched on ({waits[:60]}…), then {' → '.join(again[:5])}")
    pod.row("S9", "GraphQL: HTTP 200 with errors", f"no success: {failed}")


def the_stop_is_only_said(pod: Pod) -> Steps:
    """S2."""
    place = pod.place
    place.api.pods[POD_ID].stop_effect = StopEffect.ONLY_SAID
    place.start()
    yield from until(lambda: "STOP NOT CONFIRMED" in str(place.status().get("troubles")))
    note = stop_note(place.volume, POD_ID) or {}
    assert str(previous_stop(note, str(note["boot_key"]))).startswith("STOP NOT CONFIRMED")
    told = pod.trouble("STOP NOT CONFIRMED")
    pod.row(
        "S2", "HTTP 200, EXITED, and the machine lives on", f"STOP NOT CONFIRMED: {told}; {place.status()['reason']}"
    )


def a_key_that_may_not(pod: Pod) -> Steps:
    """S3."""
    place = pod.place
    place.settings["RUNPOD_API_KEY"] = "rpa_of_somebody_else"
    place.start()
    yield from until(lambda: "stop failed" in place.kinds())
    at_s = number(place.status()["at_s"])
    yield from until(lambda: number(place.status()["at_s"]) > at_s + 5.0)
    assert place.kinds().count("warn") == 1
    assert not place.stopped()
    assert "tried again in" in str(place.status()["reason"])
    alarms = [text for text in pod.events("alarm") if "RunPod" in text]
    assert [alarm.partition(":")[0] for alarm in alarms] == ["RunPod's API", "stop refused"], alarms
    told = f"one warning, an alarm at the start ({alarms[0][:60]} …), one after it; {place.status()['reason']}"
    pod.row("S3", "HTTP 401 for the only key", told)


def a_pod_of_a_cluster(pod: Pod) -> Steps:
    """S6, S15, S22."""
    place = pod.place
    place.api.pods[POD_ID].cluster = "cluster1"
    place.settings |= {"IDLEWATCH_USD_PER_HOUR": "3600", "IDLEWATCH_BUDGET_USD": "1e9"}
    (place.state_dir / "holds").mkdir()
    held = hold_file("until the API has told what it is", for_s=600, who="ann", state_dir=place.state_dir)
    first = place.start()
    yield from until(lambda: "Instant Cluster" in pod.trouble("cannot stop"))
    held.unlink()
    second = pod.verb("run")
    assert (second.returncode, first.poll()) == (3, None)
    pod.row("S15", "a second daemon", f"it ended with 3 ({second.stderr.strip()[:42]} …), the first goes on")
    since_s = number(place.status()["at_s"])
    yield from until(lambda: number(place.status()["at_s"]) > since_s + 5.0)
    assert number(place.status()["idle_for_s"]) > number(place.status()["idle_after_s"])
    did = "warn" in place.kinds(), pod.stop_calls(), place.api.problems
    assert did == (False, [], []), did
    pod.row(
        "S6", "a Pod that RunPod lets nobody stop", f"told at once: {pod.trouble('cannot stop')[:80]} …; never warned"
    )
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = dict(place.status())
    place.start()
    yield from until(
        lambda: number(place.status()["at_s"]) > number(before["at_s"]) and not place.status().get("ended")
    )
    for status in (before, place.status()):
        up_s = number(status["at_s"]) - number(status["started_s"])
        assert abs(number(status["spent_usd"]) - up_s) < 1.0, "a dollar a second since the container's start"
    spent = [number(status["spent_usd"]) for status in (before, place.status())]
    pod.row(
        "S22",
        "the daemon killed and started anew",
        f"spent ${spent[0]:.2f} before, ${spent[1]:.2f} after: since the start",
    )


def a_pod_without_its_id(pod: Pod) -> Steps:
    """S7, S18."""
    place = pod.place
    place.api.pods.update({name: LoopbackPod(pod_id=name) for name in ("another1", "another2")})
    place.settings["RUNPOD_POD_ID"] = ""
    place.start()
    yield from until(lambda: number(place.status().get("idle_for_s")) > 6.0)
    assert ("warn" in place.kinds(), place.stopped()) == (False, False)
    assert [request.path for request in place.api.requests] == []
    assert "RUNPOD_POD_ID" in pod.trouble("cannot stop")
    pod.row("S7", "no RUNPOD_POD_ID, three Pods in the account", f"nothing asked: {pod.trouble('cannot stop')[:110]} …")
    typo = pod.verb("run", "--observe", IDLEWATCH_IDEL_AFTER="20m")
    assert typo.returncode == 2
    assert "IDLEWATCH_IDLE_AFTER" in typo.stderr
    pod.row("S18", "IDLEWATCH_IDEL_AFTER=20m", f"exit 2: {typo.stderr.strip()}")


EXEC = """
import signal, subprocess, sys
daemon = subprocess.Popen([sys.executable, *sys.argv[2:]])
signal.signal(signal.SIGTERM, lambda *_: daemon.send_signal(signal.SIGTERM))
sys.exit(daemon.wait())
"""
"""What passes a request to end on, as `idlewatch exec` does."""


def ended_from_outside(pod: Pod) -> Steps:
    """S5, S16."""
    place = pod.place
    place.settings["IDLEWATCH_SHUTDOWN_WITHIN"] = "60s"  # a busy machine must not decide what comes of it
    pod.put("before-save/10-long", "sleep 600")
    pod.put("before-stop/10-last", f"echo once >> {place.folder}/told")
    wrapper = place.folder / "idlewatch"
    wrapper.write_text(EXEC)
    place.command = (str(wrapper), "exec", *QUIET_DAEMON)
    daemon = place.start()
    yield from until(lambda: place.phase() == "saving")
    daemon.terminate()
    yield from until(lambda: daemon.poll() is not None)
    told = (place.folder / "told").read_text().splitlines()
    assert (told, snapshots(place.volume, POD_ID), place.processes()) == (["once"], [], [])
    assert (pod.stop_calls(), place.api.pods[POD_ID].status) == ([], "RUNNING")
    note = str(previous_stop(stop_note(place.volume, POD_ID), "another start"))
    assert "was ended from outside, not by idlewatch" in note
    pod.row(
        "S5", "the container ends, nobody asked for a stop", f"no stop counted; the next start says: {note[:100]} …"
    )
    pod.put("before-save/10-long", "exit 0")
    place.start()
    yield from until(place.stopped)
    proven(place)
    pod.row("S16", "SIGTERM from outside in the save", f"hooks once, no half snapshot; the next start: {order(place)}")


def no_room(pod: Pod) -> Steps:
    """S12."""
    place = pod.place
    (place.disk / "root/large.bin").write_bytes(os.urandom(6_000_000))
    place.command = born_with(2_000_000)
    place.start()
    yield from until(lambda: "save failed" in place.kinds())
    assert (place.stopped(), snapshots(place.volume, POD_ID)) == (False, [])
    assert not [path for path in place.volume.rglob("*") if path.stat().st_size > 2_000_000]
    yield from until(lambda: "tried again in" in str(place.status()["reason"]))
    pod.row("S12", "no room for 6 MB (EFBIG)", f"no snapshot, kept up: {place.status()['reason']}")


def no_certificates(pod: Pod) -> Steps:
    """S4."""
    place = pod.place
    place.settings["SSL_CERT_FILE"] = str(place.folder / "no-such-bundle.crt")
    with untrusted(place.folder) as address:
        place.settings |= {"IDLEWATCH_RUNPOD_API_URL": address, "IDLEWATCH_RUNPOD_GRAPHQL_URL": address}
        place.start()
        yield from until(lambda: "stop failed" in place.kinds())
    failed = pod.events("stop failed")[0]
    at = failed.find("the certificate of 127.0.0.1 is not trusted here (self-signed certificate)")
    assert at > 0, failed
    count = "from idlewatch.providers.transport import trust; print(trust().cert_store_stats()['x509_ca'])"
    environment = environment_with(place.settings | {"PYTHONPATH": str(Path(__file__).parent.parent)})
    found = subprocess.run([sys.executable, "-c", count], env=environment, capture_output=True, text=True, check=True)
    assert int(found.stdout) > 50
    injected = "SSL_CERT_FILE names no file, an unknown certificate"
    pod.row("S4", injected, f"certifi's {found.stdout.strip()} are used in its place; {failed[at : at + 130]} …")


def order(place: Place) -> str:
    """What the newest end sequence did, in its order."""
    kinds = place.kinds()
    begins = len(kinds) - 1 - kinds[::-1].index("warn")
    steps = [kind for kind in kinds[begins:] if kind in {"warn", "save", "save done", "stop"}]
    assert steps == ["warn", "save", "save done", "stop"], kinds
    return " → ".join(steps)


STORIES: tuple[Callable[[Pod], Steps], ...] = (
    the_api_fails_once,
    saved_and_stopped,
    asked_for_by_a_command_that_fails,
    the_stop_is_only_said,
    a_key_that_may_not,
    a_pod_of_a_cluster,
    a_pod_without_its_id,
    ended_from_outside,
    no_room,
    no_certificates,
)


def pods(stack: ExitStack, folder: Path, rows: Rows) -> Iterator[tuple[Callable[[Pod], Steps], Pod]]:
    """A Pod for each story."""
    for story in STORIES:
        place = stack.enter_context(simulated(folder / story.__name__, LoopbackPod(pod_id=POD_ID)))
        place.log = folder / story.__name__ / "log"
        yield story, Pod(place, rows)


def lines(rows: Mapping[str, Row]) -> list[str]:
    """The table."""
    ordered = sorted(rows, key=lambda name: int(name[1:]))
    return [f"{name:<4}{rows[name].injected:<52}  {rows[name].happened}" for name in ordered]
