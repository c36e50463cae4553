"""Notices on their real ways: webhooks over loopback, Apprise, tmux; in the child processes that the daemon starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from idlewatch.children.tasks import Task
from idlewatch.errors import IdlewatchError
from idlewatch.model import Json
from idlewatch.notify import Kind, Notice, tmux
from idlewatch.notify.addresses import addresses
from idlewatch.notify.channel import Channel
from idlewatch.notify.webhook import why
from idlewatch.settings import environment_with
from idlewatch.telling.passing_on import send
from idlewatch.tmux_servers import servers
from tests.notices import Hook, served
from tests.waiting import comes

SECRET = "SECRETTOKEN"
ROOT = Path(__file__).parent.parent


@pytest.fixture
def hook() -> Iterator[Hook]:
    with served() as server:
        yield server


def notice(**other: Any) -> Notice:
    return Notice(kind=Kind.ALARM, headline="a headline", text="two\nlines", at="2026-11-24T17:00:00+00:00", **other)


def tried(written: str, *, times: int = 1, path: str = "", posted: Notice | None = None) -> Channel:
    """A channel after so many tries, by real child processes, to deliver one notice; `path`: more for PYTHONPATH."""
    variables = environment_with({"IDLEWATCH_NOTIFY": written, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"})
    label = addresses(written)[0].label

    def start(wanted: dict[str, Json], now_s: float, _within_s: float) -> Task:
        command = [sys.executable, "-m", "idlewatch", "_task", "send"]
        request: Json = {"channel": label, "notice": wanted}
        return Task(command, request, now_s=now_s, silent_limit_s=60.0, environment=variables)

    channel = Channel(label, start)
    channel.post(posted or notice(), time.monotonic())
    for _ in range(times):
        try_now(channel)
    return channel


def sent(written: str, within_s: float = 60.0, **more: str) -> Json | IdlewatchError:
    """What one child process answers that is to send one notice; `more`: variables."""
    variables = environment_with({"IDLEWATCH_NOTIFY": written, "PYTHONPATH": str(ROOT), **more})
    request: Json = {"channel": addresses(written)[0].label, "notice": notice().as_json()}
    command = [sys.executable, "-m", "idlewatch", "_task", "send"]
    task = Task(command, request, now_s=time.monotonic(), silent_limit_s=within_s, environment=variables)
    assert comes(lambda: task.poll(time.monotonic()) is not None)
    end = task.poll(time.monotonic())
    assert end is not None
    return end.result if end.error is None else end.error


def try_now(channel: Channel) -> None:
    """One try, however soon after the one before it."""

    def over() -> bool:
        channel.poll(time.monotonic())
        return channel._task is None

    channel._due_s = 0.0
    channel.poll(time.monotonic())
    assert comes(over)


# ---------------------------------------------------------------- webhooks


@pytest.mark.slow
def test_a_webhook_gets_the_json(hook: Hook) -> None:
    channel = tried(hook.url)
    assert (channel.trouble, channel.waiting) == (None, False)
    assert hook.asked == [("POST", f"/hooks/{SECRET}")]
    said = hook.sent[0]
    assert (said["format"], said["kind"], said["headline"], said["left_out"]) == (1, "alarm", "a headline", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (500, {}, "it answered HTTP 500"),
        (404, {}, "it answered HTTP 404"),
        (302, {"Location": "/elsewhere"}, "it redirects elsewhere (HTTP 302)"),
    ],
)
def test_a_webhook_that_does_not_take_it_is_reported_without_its_address(
    hook: Hook, status: int, headers: dict[str, str], told: str
) -> None:
    hook.status, hook.headers = status, headers
    channel = tried(hook.url, times=2)
    assert told in str(channel.trouble)
    assert SECRET not in str(channel.trouble)
    assert {path for _, path in hook.asked} == {f"/hooks/{SECRET}"}


@pytest.mark.slow
def test_a_webhook_that_is_gone_and_comes_back(hook: Hook) -> None:
    hook.status = 503
    channel = tried(hook.url, times=2)
    hook.status = 204
    try_now(channel)
    assert channel.trouble is None
    assert "takes notices again" in str(channel.told())
    assert len({each["id"] for each in hook.sent}) == 1


@pytest.mark.slow
def test_one_that_is_not_there_or_speaks_no_tls_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "it refused the connection" in str(tried(f"http://127.0.0.1:{port}/{SECRET}", times=2).trouble)


@pytest.mark.slow
def test_plain_http_where_tls_is_wanted(hook: Hook) -> None:
    trouble = str(tried(hook.url.replace("http://", "https://"), times=2).trouble)
    assert "TLS failed" in trouble
    assert SECRET not in trouble


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hangs", "drips"])
def test_a_webhook_that_never_answers_or_drips_is_given_up(hook: Hook, how: str) -> None:
    setattr(hook, how, True)
    said = sent(hook.url, within_s=15.0)
    assert isinstance(said, dict), said
    assert said["why"] in ("no answer within 10 s", "it did not answer in time")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (socket.gaierror(-2, SECRET), "its name could not be resolved"),
        (ssl.SSLError(SECRET), "TLS failed"),
        (httpx.ReadTimeout(SECRET), "no answer within 10 s"),
        (httpx.InvalidURL(SECRET), "can't be understood"),
        (httpx.ReadError(SECRET), "the connection broke (ReadError)"),
    ],
)
def test_what_went_wrong_is_said_in_our_own_words(error: Exception, told: str) -> None:
    assert told in why(error)
    assert SECRET not in why(error)


def test_a_server_says_when_to_come_back(hook: Hook) -> None:
    hook.status, hook.headers = 429, {"Retry-After": "77"}
    said = send(addresses(hook.url), {"channel": addresses(hook.url)[0].label, "notice": notice().as_json()})
    assert said == {"why": "it answered HTTP 429", "retry_after_s": 77.0}
    hook.headers = {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}
    assert send(addresses(hook.url), {"channel": addresses(hook.url)[0].label, "notice": {}}) == {
        "why": "it answered HTTP 429"
    }


def test_a_channel_that_was_set_no_longer_is_said_to_be_so() -> None:
    assert send((), {"channel": "https://h", "notice": {}}) == {"why": "IDLEWATCH_NOTIFY names it no longer"}


# ---------------------------------------------------------------- Apprise

FAKE = """
import json, os, sys
class PersistentStoreMode: MEMORY = "memory"
class NotificationManager:
    def schemas(self): return ["slack"]
class AppriseAsset:
    def __init__(self, **settings): assert settings["storage_mode"] == "memory"
class Apprise:
    def __init__(self, asset): pass
    def add(self, url):
        self.url = url
        return "bad" not in url
    def notify(self, **what):
        print("loud about", self.url); print("louder about", self.url, file=sys.stderr)
        if "raises" in self.url: raise RuntimeError(self.url)
        if "dies" in self.url: os._exit(3)
        with open(os.path.dirname(__file__) + "/sent", "w") as file: json.dump(what, file)
        return "refused" not in self.url
"""


@pytest.mark.slow
def test_without_apprise_its_addresses_say_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "apprise.py").write_text("raise ImportError('not here')")
    assert "pip install '.[notify]' in a checkout of idlewatch" in str(
        tried(f"slack://{SECRET}/x", times=2, path=str(tmp_path)).trouble
    )


@pytest.mark.slow
def test_apprise_gets_title_text_and_kind(tmp_path: Path) -> None:
    (tmp_path / "apprise.py").write_text(FAKE)
    channel = tried(f"slack://{SECRET}/x", path=str(tmp_path))
    assert (channel.trouble, channel.waiting) == (None, False)
    assert (tmp_path / "sent").read_text() == (
        '{"title": "idlewatch", "body": "two\\nlines", "notify_type": "failure", "body_format": "text"}'
    )


@pytest.mark.slow
def test_apprise_gets_the_link_that_keeps_the_pod(tmp_path: Path) -> None:
    (tmp_path / "apprise.py").write_text(FAKE)
    warning = notice(facts={"keep_link": "https://page/keep/1"})
    tried(f"slack://{SECRET}/x", path=str(tmp_path), posted=warning)
    assert "lines\\nKeep it up for 2 hours: https://page/keep/1" in (tmp_path / "sent").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("bad", "does not understand this address"),
        ("refused", "could not deliver it"),
        ("raises", "could not be sent (RuntimeError)"),
        ("dies", "ended without an answer, exit status 3"),
    ],
)
def test_what_apprise_says_of_an_address_is_not_passed_on(tmp_path: Path, how: str, told: str) -> None:
    (tmp_path / "apprise.py").write_text(FAKE)
    trouble = str(tried(f"slack://{SECRET}/{how}", times=2, path=str(tmp_path)).trouble)
    assert told in trouble
    assert SECRET not in trouble


@pytest.mark.slow
def test_the_real_apprise_delivers_and_leaves_no_file(hook: Hook, tmp_path: Path) -> None:
    assert sent(hook.url.replace("http://", "json://"), HOME=str(tmp_path)) == {}
    assert (hook.sent[0]["title"], hook.sent[0]["message"]) == ("idlewatch", "two\nlines")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- tmux


@pytest.fixture
def folder() -> Iterator[Path]:
    """What stands for /tmp; short, because the path of a socket has little room."""
    with tempfile.TemporaryDirectory(prefix="iw") as made:
        Path(made).chmod(0o755)
        yield Path(made)


class TmuxServer:
    """A real tmux server with one client on a terminal of the test's own."""

    def __init__(self, folder: Path, user_id: int | None = None) -> None:
        home = folder / f"tmux-{os.geteuid() if user_id is None else user_id}"
        home.mkdir(mode=0o700)
        if user_id is not None:
            os.chown(home, user_id, user_id)
        self.socket, self._user = home / "default", user_id
        self("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "10", "cat")
        self._terminal, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 100, 0, 0))
        if user_id is not None:
            os.chown(os.ttyname(slave), user_id, user_id)
        self._client = subprocess.Popen(
            ["tmux", "-S", str(self.socket), "attach"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  (tmux wants a terminal of its own)
            **self._as_user(),
        )
        os.close(slave)
        self._seen = b""
        assert comes(lambda: self("list-clients", "-F", "#{client_name}").strip() and self.shows(b"[0]"))

    def _as_user(self) -> dict[str, Any]:
        # Without SHELL tmux runs its command by the user's shell of record, and that of a service account is nologin.
        found: dict[str, Any] = {"env": {**os.environ, "TERM": "xterm", "SHELL": "/bin/sh"}}
        return found if self._user is None else {**found, "user": self._user, "group": self._user, "extra_groups": ()}

    def __call__(self, *words: str) -> str:
        command = ["tmux", "-S", str(self.socket), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, **self._as_user())
        return str(done.stdout)

    def shows(self, text: bytes) -> bool:
        """Whether that has been on the client's screen."""
        while select.select([self._terminal], [], [], 0.01)[0]:
            self._seen += os.read(self._terminal, 65536)
        return text in self._seen

    def end(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self("kill-server")
        self._client.wait(60)
        os.close(self._terminal)


@pytest.fixture
def server(folder: Path) -> Iterator[TmuxServer]:
    made = TmuxServer(folder)
    yield made
    made.end()


with_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


@with_tmux
def test_every_client_sees_the_message_as_it_is_and_nothing_in_it_is_run(server: TmuxServer, folder: Path) -> None:
    trap = folder / "trap"
    text = f"gpu0 87 % > 5 %H #(touch {trap}) #{{host}} ends;"
    assert tmux.show(text, None, within_s=60.0, folder=folder) == 1
    assert comes(lambda: server.shows(f"gpu0 87 % > 5 %H  (touch {trap})  {{host}} ends".encode()))
    assert not trap.exists()


@with_tmux
def test_the_mark_is_set_and_taken_away(server: TmuxServer, folder: Path) -> None:
    def mark() -> str:
        return server("show-option", "-gqv", tmux.MARK).strip()

    tmux.show("x", "stops at 17:05 UTC", within_s=60.0, folder=folder)
    assert mark() == "stops at 17:05 UTC"
    tmux.show("x", None, within_s=60.0, folder=folder)
    assert mark() == "stops at 17:05 UTC"
    tmux.show("x", "", within_s=60.0, folder=folder)
    assert mark() == ""


@pytest.mark.slow
@with_tmux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_users_server_is_talked_to_as_that_user(folder: Path) -> None:
    server = TmuxServer(folder, user_id=65534)
    try:
        assert tmux.show("for nobody", None, within_s=60.0, folder=folder) == 1
        assert comes(lambda: server.shows(b"for nobody"))
    finally:
        server.end()


@with_tmux
def test_a_server_that_hangs_is_given_up_and_one_that_is_gone_is_passed_over(folder: Path) -> None:
    home = folder / f"tmux-{os.geteuid()}"
    home.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as hanging, socket.socket(socket.AF_UNIX) as gone:
        hanging.bind(str(home / "hangs"))
        hanging.listen(16)
        gone.bind(str(home / "gone"))
        assert tmux.show("x", "y", within_s=1.0, folder=folder) == 0


def test_where_no_tmux_is_installed_nobody_is_shown_anything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = folder / f"tmux-{os.geteuid()}"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("PATH", str(folder))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / "default"))
        listening.listen(16)
        assert tmux.show("x", "y", within_s=60.0, folder=folder) == 0


def test_a_socket_that_others_may_have_put_there_is_not_talked_to(folder: Path) -> None:
    own, open_, strange = folder / "tmux-1", folder / "tmux-2", folder / "tmux-3"
    for home in (own, open_, strange):
        home.mkdir(mode=0o700)
    open_.chmod(0o770)
    (folder / "tmux-4").symlink_to(own)
    with contextlib.ExitStack() as stack:
        for home in (own, open_, strange):
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(home / "default"))
        (own / "link").symlink_to(own / "default")
        (own / "file").write_text("")
        expected = [own / "default", strange / "default"]
        if os.geteuid() == 0:
            os.chown(strange / "default", 65534, 65534)
            expected = [own / "default"]
        assert [server.socket for server in servers(folder)] == expected


@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        (Kind.WARNING, "stops at 17:05 UTC"),
        (Kind.STOP, "stopping"),
        (Kind.OFF, ""),
        (Kind.ENDED, ""),
        (Kind.ALARM, None),
        (Kind.TEST, None),
    ],
)
def test_which_mark_a_notice_leaves(kind: Kind, mark: str | None) -> None:
    assert tmux.mark_of({"kind": kind.value, "begins_at": "2026-11-24T17:05:00+00:00"}) == mark
