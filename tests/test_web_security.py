"""The page's secrets, logins and links, without a web server."""

from __future__ import annotations

import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from idlewatch.errors import Refused
from idlewatch.web import keep_link, served_at
from idlewatch.web.address import address, serving
from idlewatch.web.keys import Keys, KeysNow, keys_of, new_token
from idlewatch.web.links import BadLink, is_used, understood, used
from idlewatch.web.security import (
    SESSION_S,
    Failures,
    Gatekeeper,
    cookie_of,
    foreign,
    plain_path,
    set_cookie,
)
from tests.web_state import START

KEYS = Keys(token="t" * 43, metrics="m" * 43, key=b"k" * 43)
KEEPER = Gatekeeper(lambda: KEYS)
RUNPOD = {"host": "abc-8040.proxy.runpod.net"}


def test_secrets_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    keys = keys_of(tmp_path)
    assert keys == keys_of(tmp_path)
    secrets = {keys.token, keys.metrics, keys.key.decode()}
    assert len(secrets) == 3
    assert min(map(len, secrets)) >= 43
    assert stat.S_IMODE((tmp_path / "web").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "web").iterdir()} == {0o600}


def test_processes_that_start_together_agree_on_one_secret(tmp_path: Path) -> None:
    together, found = threading.Barrier(8), []

    def look() -> None:
        together.wait()
        found.append(keys_of(tmp_path))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("name", ["token", "metrics-token", "key"])
def test_a_secret_that_others_can_read_is_none(tmp_path: Path, name: str) -> None:
    keys_of(tmp_path)
    (tmp_path / "web" / name).chmod(0o640)
    with pytest.raises(Refused, match="open to others"):
        keys_of(tmp_path)


def test_a_secret_that_is_a_link_or_cut_short_is_none(tmp_path: Path) -> None:
    keys_of(tmp_path)
    token = tmp_path / "web" / "token"
    token.unlink()
    token.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="can't be read"):
        keys_of(tmp_path)
    token.unlink()
    token.touch(mode=0o600)
    with pytest.raises(Refused, match="damaged"):
        keys_of(tmp_path)


def test_secrets_are_in_no_repr() -> None:
    session = KEEPER.session(KEEPER.new_session(0.0), 1.0)
    assert session
    shown = repr(KEYS) + repr(session)
    assert not any(
        secret in shown for secret in (KEYS.token, KEYS.metrics, KEYS.key.decode(), session.csrf, session.nonce)
    )


def test_two_lists_of_words_never_have_one_signature() -> None:
    signed = {
        KEYS.signature(*words) for words in (("a", "b", "c"), ("a", "bc"), ("ab", "c"), ("a", "", "bc"), ("abc",))
    }
    assert len(signed) == 5


def test_only_the_whole_token_fits() -> None:
    assert KEEPER.token_fits(KEYS.token)
    for wrong in ("", KEYS.token[:-1], KEYS.token + "t", KEYS.token.upper(), "ü", "\udcff"):
        assert not KEEPER.token_fits(wrong)


def test_a_login_ends_and_can_t_be_made_longer() -> None:
    cookie = KEEPER.new_session(1000.0)
    assert KEEPER.session(cookie, 1000.0 + SESSION_S - 1)
    assert KEEPER.session(cookie, 1000.0 + SESSION_S) is None
    until, nonce, signed = cookie.split(".")
    for forged in (
        f"{int(until) + 1}.{nonce}.{signed}",
        f"{until}.{'0' * 32}.{signed}",
        f"{until}.{nonce}.{'0' * 64}",
        "",
    ):
        assert KEEPER.session(forged, 1000.0) is None


def test_another_token_ends_every_login_and_leaves_links(tmp_path: Path) -> None:
    now = KeysNow(tmp_path)
    keeper = Gatekeeper(now)
    old, cookie, link = now().token, keeper.new_session(0.0), keep_link(tmp_path, "http://x", 60.0, START)
    new_token(tmp_path)
    assert not keeper.token_fits(old)
    assert keeper.token_fits(keys_of(tmp_path).token)
    assert keeper.session(cookie, 1.0) is None
    assert understood(now(), link.rpartition("/")[2], START).for_s == 60.0


def test_a_form_of_another_login_does_not_fit() -> None:
    mine, other = (KEEPER.session(KEEPER.new_session(0.0), 1.0) for _ in range(2))
    assert mine
    assert other
    assert KEEPER.csrf_fits(mine, mine.csrf)
    assert not KEEPER.csrf_fits(mine, other.csrf)
    assert not KEEPER.csrf_fits(mine, "")


def test_the_cookie_is_closed_to_scripts_and_other_sites() -> None:
    http, https = set_cookie({"host": "127.0.0.1"}, "v", 60.0), set_cookie(RUNPOD, "v", 60.0)
    assert http == "idlewatch=v; Max-Age=60; HttpOnly; SameSite=Strict"
    assert https == "__Host-idlewatch=v; Max-Age=60; HttpOnly; SameSite=Strict; Secure; Path=/"
    assert set_cookie({"host": "x", "x-forwarded-proto": "https"}, "v", 60.0) == https


def test_a_cookie_that_another_pod_could_plant_does_not_count_by_https() -> None:
    planted = {"cookie": "a=b; idlewatch=planted"}
    assert cookie_of({**RUNPOD, **planted}) is None
    assert cookie_of({**RUNPOD, "cookie": "idlewatch=planted; __Host-idlewatch=ours"}) == "ours"
    assert cookie_of({"host": "localhost", **planted}) == "planted"


@pytest.mark.parametrize(
    ("headers", "is_foreign"),
    [
        ({"origin": "https://abc-8040.proxy.runpod.net"}, False),
        ({"referer": "https://abc-8040.proxy.runpod.net/stop"}, False),
        ({"origin": "https://abc-8040.proxy.runpod.net", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "https://me.example", "x-forwarded-host": "me.example"}, False),
        ({}, True),
        ({"origin": "null"}, True),
        ({"origin": "https://evil-8040.proxy.runpod.net"}, True),
        ({"origin": "https://abc-8040.proxy.runpod.net.evil.example"}, True),
        ({"origin": "https://abc-8040.proxy.runpod.net@evil.example"}, True),
        ({"referer": "https://evil.example/abc-8040.proxy.runpod.net"}, True),
        ({"origin": "https://[", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://abc-8040.proxy.runpod.net", "sec-fetch-site": "same-site"}, True),
        ({"origin": "https://abc-8040.proxy.runpod.net", "sec-fetch-site": "cross-site"}, True),
    ],
)
def test_what_acts_must_come_from_our_own_page(headers: dict[str, str], is_foreign: bool) -> None:  # noqa: FBT001  (a row)
    assert bool(foreign({**RUNPOD, **headers}, acts=True)) is is_foreign


def test_what_reads_may_be_opened_from_anywhere_but_not_read_by_others_scripts() -> None:
    assert foreign({**RUNPOD, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, acts=False) is None
    assert foreign({**RUNPOD, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, acts=False)


@pytest.mark.parametrize(
    "path",
    [
        b"/../etc/passwd",
        b"/static/../../keys.py",
        b"/static/%2e%2e/x",
        b"/static/..%2fx",
        b"//evil.example",
        b"/static\\page.css",
        b"/a\x00b",
        b"/a;b",
        b"/%",
        b"http://127.0.0.1/",
        b"",
        b"/" + b"a" * 600,
        b"/\xff",
    ],
)
def test_paths_that_none_of_ours_has(path: bytes) -> None:
    assert not plain_path(path)
    assert plain_path(b"/static/page.css")


def test_failures_are_let_off_slowly_again() -> None:
    failures = Failures(burst=3, per_s=0.5)
    assert [failures.too_many(10.0) for _ in range(4)] == [False, False, False, True]
    assert not failures.too_many(12.0)
    assert failures.too_many(12.0)
    assert failures.too_many(5.0)  # a clock that was set back gives nothing away


def test_a_link_says_what_it_allows_and_no_secret(tmp_path: Path) -> None:
    link = keep_link(tmp_path, "https://abc-8040.proxy.runpod.net/", 7200.0, START)
    assert link.startswith("https://abc-8040.proxy.runpod.net/keep/7200-")
    keys = keys_of(tmp_path)
    assert keys.token not in link
    assert keys.key.decode() not in link
    assert understood(keys, link.rpartition("/")[2], START).for_s == 7200.0


def test_a_link_that_was_changed_is_none_of_ours(tmp_path: Path) -> None:
    text, keys = keep_link(tmp_path, "http://x", 7200.0, START).rpartition("/")[2], keys_of(tmp_path)
    for_s, until, nonce, signed = text.split("-")
    changed = [
        f"72000-{until}-{nonce}-{signed}",
        f"{for_s}-{int(until) + 9}-{nonce}-{signed}",
        f"{for_s}-{until}-{'0' * 32}-{signed}",
        f"{for_s}-{until}-{nonce}-{'0' * 64}",
        text.upper(),
        "",
        "a" * 5000,
    ]
    for one in changed:
        with pytest.raises(BadLink) as caught:
            understood(keys, one, START)
        assert not caught.value.ours


def test_a_session_s_signature_makes_no_link(tmp_path: Path) -> None:
    keys = keys_of(tmp_path)
    until, nonce, signed = Gatekeeper(lambda: keys).new_session(START.timestamp()).split(".")
    with pytest.raises(BadLink):
        understood(keys, f"7200-{until}-{nonce}-{signed}", START)


def test_a_link_ends(tmp_path: Path) -> None:
    text = keep_link(tmp_path, "http://x", 60.0, START, valid_for_s=600.0).rpartition("/")[2]
    understood(keys_of(tmp_path), text, START + timedelta(seconds=599))
    with pytest.raises(BadLink, match="too old"):
        understood(keys_of(tmp_path), text, START + timedelta(seconds=600))


def test_a_link_works_once_and_is_given_back_where_it_did_nothing(tmp_path: Path) -> None:
    link = understood(keys_of(tmp_path), keep_link(tmp_path, "http://x", 60.0, START).rpartition("/")[2], START)
    with pytest.raises(OSError, match="no room"), used(tmp_path, link, START):
        raise OSError("no room")
    assert not is_used(tmp_path, link)
    with used(tmp_path, link, START):
        pass
    assert is_used(tmp_path, link)
    with pytest.raises(BadLink, match="used already"), used(tmp_path, link, START):
        pytest.fail("a spent link was let in")
    assert is_used(tmp_path, link)


def test_marks_of_links_that_are_too_old_go(tmp_path: Path) -> None:
    for later_s in (0, 7 * 3600):
        now = START + timedelta(seconds=later_s)
        text = keep_link(tmp_path, "http://x", 60.0, now).rpartition("/")[2]
        with used(tmp_path, understood(keys_of(tmp_path), text, now), now):
            pass
    assert len(list((tmp_path / "web" / "used").iterdir())) == 1


@pytest.mark.parametrize(
    ("pod_id", "host", "url"),
    [
        ("abc", "0.0.0.0", "https://abc-8040.proxy.runpod.net"),  # noqa: S104  (nothing is bound)
        (None, "127.0.0.1", "http://127.0.0.1:8040"),
        (None, "0.0.0.0", "http://127.0.0.1:8040"),  # noqa: S104  (likewise)
        (None, "::1", "http://[::1]:8040"),
    ],
)
def test_where_the_page_is_reached(pod_id: str | None, host: str, url: str) -> None:
    assert address(pod_id, host, 8040) == url


def test_an_address_is_told_while_the_page_is_served(tmp_path: Path) -> None:
    assert served_at(tmp_path) is None
    with serving(tmp_path, "http://127.0.0.1:8040"):
        assert served_at(tmp_path) == "http://127.0.0.1:8040"
        with pytest.raises(Refused, match="served already"), serving(tmp_path, "http://127.0.0.1:9"):
            pytest.fail("two pages were served")
        assert served_at(tmp_path) == "http://127.0.0.1:8040"
    assert served_at(tmp_path) is None
