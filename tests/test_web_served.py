"""The page as it is really served: its process, its socket, its link, and its death, which the daemon survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the page is an extra: idlewatch[web]")

from idlewatch.cli import main
from idlewatch.history.status import number
from idlewatch.history.store import status_of
from idlewatch.kernel.own import registrations
from idlewatch.settings import environment_with
from idlewatch.web import served_at
from idlewatch.web.keys import keys_of
from tests.waiting import until
from tests.web_process import WITHIN_S, asked, free_port, served

pytestmark = pytest.mark.slow


Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verb:
    """`idlewatch web` with these words: exit status, standard output and standard error."""

    def run(state_dir: Path, *words: str) -> tuple[int, str, str]:
        monkeypatch.setenv("IDLEWATCH_STATE_DIR", str(state_dir))
        status = main(["web", *words])
        return status, *capsys.readouterr()

    return run


def test_the_link_is_printed_alone_and_is_the_same_each_time(tmp_path: Path, verb: Verb) -> None:
    first = verb(tmp_path, "--link", "--port", "8123")
    assert first[:2] == (0, f"http://127.0.0.1:8123/?token={keys_of(tmp_path).token}\n")
    assert "nothing is served there now" in first[2]
    assert verb(tmp_path, "--link", "--port", "8123") == first
    assert verb(tmp_path, "--new-link", "--port", "8123")[1] not in ("", first[1])


def test_in_a_pod_the_link_leads_through_its_proxy(tmp_path: Path, verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_POD_ID", "abc123")
    assert verb(tmp_path, "--link", "--port", "8123")[1].startswith("https://abc123-8123.proxy.runpod.net/?token=")


def test_a_page_or_a_port_that_is_taken_is_said(tmp_path: Path, verb: Verb) -> None:
    with served(tmp_path) as page:
        assert served_at(tmp_path) == page.url
        assert verb(tmp_path, "--link")[1] == f"{page.url}/?token={keys_of(tmp_path).token}\n"
        status, _, said = verb(tmp_path, "--port", str(free_port()))
        assert (status, "served already" in said) == (3, True)
        status, _, said = verb(tmp_path / "other", "--port", str(page.port))
        assert (status, "can't serve at 127.0.0.1" in said) == (3, True)


def test_what_comes_over_the_wire_is_no_better_than_its_words(tmp_path: Path) -> None:
    tricks = [
        ["GET /../../../../etc/passwd HTTP/1.1", "Host: x", "Connection: close"],
        ["GET /static/..%2f..%2f..%2fetc/passwd HTTP/1.1", "Host: x", "Connection: close"],
        ["GET http://169.254.169.254/latest/ HTTP/1.1", "Host: x", "Connection: close"],
        ["GET //evil.example/ HTTP/1.1", "Host: x", "Connection: close"],
        ["GET / HTTP/1.1", "Host: x", "X-Forwarded-For: 127.0.0.1", "X-Original-URL: /api/status", "Connection: close"],
        ["GET / HTTP/1.1", "Host: x", f"X: {'a' * 100_000}", "Connection: close"],
        ["GET / HTTP/9.9", "Host: x", "Connection: close"],
        ["nonsense"],
        [f"GET /{'a' * 100_000} HTTP/1.1", "Host: x", "Connection: close"],
    ]
    with served(tmp_path) as page:
        port, process = page.port, page.process
        found = [asked(port, lines) for lines in tricks]
        assert process.poll() is None
        assert asked(port, ["GET /healthz HTTP/1.1", "Host: x", "Connection: close"]).endswith(b"ok\n")
    assert not [answer for answer in found if b"200 OK" in answer or b"root:" in answer]
    cut_off = [lines for lines, answer in zip(tricks, found, strict=True) if not answer]
    assert all(len("".join(lines)) > 100_000 for lines in cut_off)
    assert {answer[9:12] for answer in found if answer} <= {b"400", b"401", b"404", b"431"}


def test_the_link_signs_in_at_the_real_page_and_is_in_no_log(tmp_path: Path) -> None:
    token = keys_of(tmp_path).token
    with served(tmp_path) as page:
        port, process = page.port, page.process
        answer = asked(port, [f"GET /?token={token} HTTP/1.1", "Host: x", "Connection: close"])
        cookie = answer.partition(b"set-cookie: ")[2].partition(b";")[0].decode()
        wrong = asked(port, ["GET /?token=wrong HTTP/1.1", "Host: x", "Connection: close"])
        shown = asked(port, ["GET / HTTP/1.1", "Host: x", f"Cookie: {cookie}", "Connection: close"])
        process.terminate()
        said = process.communicate(timeout=WITHIN_S)[0].decode()
    assert b" 401 " in wrong
    assert b"200 OK" in shown
    assert b"What was seen" in shown
    assert "page_refused" in said
    assert token not in said
    assert "token=wrong" not in said


def test_what_it_costs_is_told_to_be_no_use_of_the_pod(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        assert [pid for pid, _ in registrations(tmp_path)] == [page.process.pid]
        page.process.send_signal(signal.SIGINT)
        page.process.wait(WITHIN_S)
    assert registrations(tmp_path) == {}


def test_ctrl_c_is_how_it_ends(tmp_path: Path) -> None:
    with served(tmp_path) as page:
        page.process.send_signal(signal.SIGINT)
        assert page.process.wait(WITHIN_S) == 0
    assert served_at(tmp_path) is None


@contextmanager
def watching(state_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real daemon on a host that is quiet by decree."""
    given = {
        "IDLEWATCH_STATE_DIR": str(state_dir),
        "IDLEWATCH_SAVE_ROOT": str(state_dir / "disk"),
        "IDLEWATCH_INTERVAL": "0.2s",
        "IDLEWATCH_MODE": "observe",
    }
    daemon = subprocess.Popen(
        [sys.executable, "-m", "tests.quiet_daemon"],
        env=environment_with(given),
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield daemon
    finally:
        daemon.terminate()
        try:
            daemon.wait(WITHIN_S)
        finally:
            daemon.kill()


def test_the_daemon_does_not_notice_the_page_s_death(tmp_path: Path) -> None:
    def looked_s() -> float:
        return number((status_of(tmp_path) or {}).get("at_s"))

    with watching(tmp_path) as daemon, served(tmp_path) as page:
        until(lambda: looked_s() > 0, "the daemon's first look")
        port, token = page.port, keys_of(tmp_path).token
        answer = asked(port, [f"GET /?token={token} HTTP/1.1", "Host: x", "Connection: close"])
        cookie = answer.partition(b"set-cookie: ")[2].partition(b";")[0].decode()
        for name in ("series", "timeline", "status", "why"):
            told = asked(port, [f"GET /api/{name} HTTP/1.1", "Host: x", f"Cookie: {cookie}", "Connection: close"])
            assert b"200 OK" in told
        os.kill(page.process.pid, signal.SIGKILL)
        page.process.wait(WITHIN_S)
        before_s = looked_s()
        until(lambda: looked_s() > before_s + 1.0, "its next looks")
        assert daemon.poll() is None
