"""Who gets in at the page, and who does what there: every attack that its security promises to stand."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from idlewatch.requests.stop_requests import request_file, stop_request
from idlewatch.state_folder import only_daemon
from idlewatch.web import keep_link
from idlewatch.web.keys import keys_of, new_token
from tests.web_asgi import HOST, ORIGIN, Answer, Site, Visitor, made_site
from tests.web_state import BOOT_KEY, show_status

EVERY_PATH = [
    "/",
    "/stop",
    "/api/status",
    "/api/why",
    "/api/series",
    "/api/timeline",
    "/api/measured?what=loss",
    "/metrics",
    "/static/page.css",
    "/static/nothing.css",
    "/nothing",
]
HEAVY = "/report"
"""Starts a process of its own, so it is asked for only where nobody may have it."""
ACTS: Mapping[str, dict[str, str]] = {
    "/hold": {"for": "2h"},
    "/release": {"id": "1-abc"},
    "/save": {},
    "/stop": {"confirmed": "yes", "warn": "30s"},
    "/cancel": {},
    "/measure": {"what": "loss"},
    "/logout": {},
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with only_daemon(tmp_path):
        yield made_site(tmp_path)


def done(site: Site) -> list[str]:
    """Every file that anybody's request has left."""
    return sorted(
        path.name for folder in ("holds", "requests") for path in (site.state_dir / folder).glob("*") if path.is_file()
    )


def test_without_the_token_only_a_bare_health_answer(site: Site) -> None:
    nobody = site.visitor(logged_in=False)
    health = nobody.get("/healthz")
    assert (health.status, health.text) == (200, "ok\n")
    answers = {nobody.get(path).body for path in [*EVERY_PATH, HEAVY]}
    assert {nobody.get(path).status for path in [*EVERY_PATH, HEAVY]} == {401}
    assert len(answers) == 1  # not even which addresses there are


@pytest.mark.parametrize("token", ["", "wrong", "%00", "t" * 3000])
def test_a_wrong_token_lets_nobody_in(site: Site, token: str) -> None:
    answer = site.visitor(logged_in=False).get(f"/?token={token}")
    assert answer.status == 401
    assert "set-cookie" not in answer.headers


def test_the_login_link_is_traded_for_a_cookie(site: Site) -> None:
    visitor = site.visitor(logged_in=False)
    answer = visitor.log_in(site.token)
    assert answer.status == 200
    assert site.token not in answer.text + str(answer.headers)
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert 'content="0;./"' in answer.text
    assert visitor.cookie
    assert site.token not in visitor.cookie
    assert visitor.get("/").status == 200


def test_the_token_opens_nothing_but_the_login(site: Site) -> None:
    nobody = site.visitor(logged_in=False)
    assert nobody.get(f"/api/status?token={site.token}").status == 401
    assert nobody.ask("GET", "/", {"authorization": f"Bearer {site.token}"}).status == 401


def test_the_metrics_token_reads_metrics_and_nothing_else(site: Site) -> None:
    nobody, keys = Visitor(site.app), keys_of(site.state_dir)
    read = nobody.get("/metrics", authorization=f"Bearer {keys.metrics}")
    assert read.status == 200
    assert "idlewatch_up 1.0" in read.text
    for wrong in ("Bearer wrong", f"Bearer {keys.token}", keys.metrics, f"Basic {keys.metrics}"):
        assert nobody.get("/metrics", authorization=wrong).status == 401
    others = {
        nobody.get(path, authorization=f"Bearer {keys.metrics}").status for path in ("/", "/api/status", "/report")
    }
    assert others == {401}
    assert nobody.get(f"/?token={keys.metrics}").status == 401


def test_the_metrics_of_a_daemon_that_has_just_died_say_so(tmp_path: Path) -> None:
    site = made_site(tmp_path)
    told = Visitor(site.app).get("/metrics", authorization=f"Bearer {keys_of(tmp_path).metrics}").text
    assert "idlewatch_up 0.0" in told


def test_an_old_link_and_its_logins_end_with_a_new_token(site: Site) -> None:
    visitor, old = site.visitor(), site.token
    new_token(site.state_dir)
    assert visitor.get("/").status == 401
    assert site.visitor(logged_in=False).get(f"/?token={old}").status == 401
    assert site.visitor().get("/").status == 200


def test_a_login_is_over_after_a_week(site: Site) -> None:
    visitor = site.visitor()
    site.clock.sleep(7 * 86400.0 + 1)
    assert visitor.get("/").status == 401


def test_signing_out_takes_the_cookie_away(site: Site) -> None:
    visitor = site.visitor()
    answer = visitor.post("/logout", {"csrf": visitor.csrf()})
    assert answer.status == 200
    assert "idlewatch=; Max-Age=0" in answer.headers["set-cookie"]
    assert "clear-site-data" not in answer.headers  # below a prefix the site is Jupyter's, too


@pytest.mark.parametrize("path", ACTS)
def test_a_get_never_acts(site: Site, path: str) -> None:
    visitor = site.visitor()
    csrf = visitor.csrf()
    for method in ("GET", "HEAD"):
        answer = visitor.ask(method, f"{path}?csrf={csrf}&confirmed=yes&for=2h&warn=30s", {})
        assert answer.status == (200 if path == "/stop" else 405)
    assert done(site) == []


@pytest.mark.parametrize("path", ACTS)
def test_what_acts_needs_a_login_a_form_of_ours_and_our_own_page(site: Site, path: str) -> None:
    visitor = site.visitor()
    csrf, form = visitor.csrf(), ACTS[path]
    other = site.visitor()
    refused = {
        "no login": Visitor(site.app).post(path, {**form, "csrf": csrf}),
        "no token in the form": visitor.post(path, form),
        "another login's token": visitor.post(path, {**form, "csrf": other.csrf()}),
        "no origin": visitor.post(path, {**form, "csrf": csrf}, origin=""),
        "another origin": visitor.post(path, {**form, "csrf": csrf}, origin="https://evil.example"),
        "another Pod": visitor.post(path, {**form, "csrf": csrf}, sec_fetch_site="same-site"),
        "no form": visitor.post(path, {**form, "csrf": csrf}, content_type="application/json"),
        "plain text": visitor.post(path, {**form, "csrf": csrf}, content_type="text/plain"),
    }
    assert {why: answer.status for why, answer in refused.items()} == {
        "no login": 401,
        "no token in the form": 403,
        "another login's token": 403,
        "no origin": 403,
        "another origin": 403,
        "another Pod": 403,
        "no form": 415,
        "plain text": 415,
    }
    assert done(site) == []


def test_with_all_of_it_things_are_done(site: Site) -> None:
    visitor = site.visitor()
    csrf = visitor.csrf()
    assert visitor.post("/hold", {"for": "2h", "csrf": csrf}).said == {"said": "Held for 2h."}
    assert visitor.post("/stop", {"confirmed": "yes", "warn": "30s", "csrf": csrf}).status == 200
    assert stop_request(site.state_dir, BOOT_KEY)
    assert len(done(site)) == 2


def test_a_stop_that_nobody_confirmed_is_none(site: Site) -> None:
    visitor = site.visitor()
    csrf = visitor.csrf()
    assert visitor.post("/stop", {"warn": "30s", "csrf": csrf}).status == 400
    assert visitor.post("/stop", {"warn": "0s", "confirmed": "yes", "csrf": csrf}).status == 409
    assert not request_file(site.state_dir).exists()


def test_other_sites_scripts_read_nothing(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.get("/api/status", sec_fetch_site="same-site", sec_fetch_mode="no-cors").status == 403
    assert visitor.get("/api/status", sec_fetch_site="cross-site", sec_fetch_mode="cors").status == 403
    assert visitor.get("/api/status", sec_fetch_site="same-origin", sec_fetch_mode="cors").status == 200
    assert "access-control-allow-origin" not in visitor.get("/api/status").headers


def test_who_comes_by_a_link_elsewhere_is_sent_on_so_that_the_cookie_comes_along(site: Site) -> None:
    answer = Visitor(site.app).get("/", sec_fetch_site="cross-site", sec_fetch_mode="navigate")
    assert answer.status == 401
    assert 'http-equiv="refresh"' in answer.text
    assert "refresh" not in Visitor(site.app).get("/", sec_fetch_site="same-origin").text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../keys.py",
        "/static/%2e%2e/keys.py",
        "/static/..%2f..%2fetc%2fpasswd",
        "/static//etc/passwd",
        "//etc/passwd",
        "/static/page.css%00.js",
        "/static/page.css/",
        "/static/",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..;/healthz",
        "/api/../healthz",
        "/static/uplot.LICENSE.txt/../page.css",
        "http://elsewhere.example/",
    ],
)
def test_no_path_leads_anywhere_else(site: Site, path: str) -> None:
    answer = site.visitor().get(path)
    assert answer.status == 404
    assert "root:" not in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get"])
def test_other_methods_are_none(site: Site, method: str) -> None:
    assert site.visitor().ask(method, "/", {}).status == 405


def test_a_websocket_is_closed_without_a_word(site: Site) -> None:
    sent: list[object] = []

    async def nothing() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def keep(message: object) -> None:
        sent.append(message)

    asyncio.run(site.app({"type": "websocket", "path": "/", "headers": []}, nothing, keep))
    assert sent == []


def test_every_answer_has_the_headers_that_protect_it(site: Site) -> None:
    visitor, nobody = site.visitor(), Visitor(site.app)
    link = path_of(keep_link(site.state_dir, ORIGIN, 60.0, site.clock.wall()))
    answers = [visitor.get(path) for path in EVERY_PATH] + [
        nobody.get("/"),
        nobody.get("/healthz"),
        nobody.get("/.."),
        nobody.get(link),
        visitor.post("/hold", {}),
        nobody.get(f"/?token={site.token}"),
        visitor.get("/api/series?range=nothing"),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "max-age" in answer.headers["cache-control"] or answer.headers["cache-control"] == "no-store"


def test_pages_have_nothing_inline_that_the_policy_would_have_to_let_in(site: Site) -> None:
    visitor = site.visitor()
    for path in ("/", "/stop"):
        text = visitor.get(path).text
        assert not any(
            word in text for word in ("<style", "style=", "onclick", "onload", "javascript:", "http://", "https://")
        )
        assert all("src=" in part.partition(">")[0] for part in text.split("<script")[1:])


def test_no_answer_has_a_secret(site: Site) -> None:
    keys = keys_of(site.state_dir)
    (site.state_dir / "settings.json").write_text(json.dumps({"variables": {"IDLEWATCH_X": "sekret"}}))
    show_status(site.state_dir, site.clock.now_s(), api_key="sekret")
    visitor = site.visitor()
    answers = [visitor.get(path) for path in [*EVERY_PATH, "/healthz"]]
    answers += [visitor.post(path, {**form, "csrf": "x"}) for path, form in ACTS.items()]
    whole = "".join(answer.text + str(answer.headers) for answer in answers)
    assert not any(secret in whole for secret in (keys.token, keys.metrics, keys.key.decode(), "sekret"))


def test_a_name_from_elsewhere_stays_text(site: Site) -> None:
    show_status(site.state_dir, site.clock.now_s(), pod_id="<script>x</script>", reason='"><img src=x>')
    text = site.visitor().get("/stop").text
    assert "<script>x" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


def test_a_form_that_is_too_long_is_not_read(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.post("/hold", {"reason": "x" * 5000, "csrf": visitor.csrf()}).status == 413


def path_of(link: str) -> str:
    return link.removeprefix(ORIGIN)


def held(site: Site) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted((site.state_dir / "holds").glob("*.json"))]


def test_a_link_in_a_notice_holds_by_its_button_only(site: Site) -> None:
    nobody = Visitor(site.app)
    path = path_of(keep_link(site.state_dir, ORIGIN, 7200.0, site.clock.wall()))
    for method in ("GET", "HEAD", "GET"):
        assert nobody.ask(method, path, {}).status == 200
    assert held(site) == []
    answer = nobody.post(path, {"keep": "yes"})
    assert (answer.status, "Held for 2h." in answer.text) == (200, True)
    (hold,) = held(site)
    assert hold["who"] == "the link in a notice"
    assert "set-cookie" not in answer.headers


def test_a_link_that_was_used_does_nothing_again(site: Site) -> None:
    nobody = Visitor(site.app)
    path = path_of(keep_link(site.state_dir, ORIGIN, 7200.0, site.clock.wall()))
    assert nobody.post(path, {}).status == 200
    again = nobody.post(path, {})
    assert (again.status, "used already" in again.text) == (410, True)
    assert nobody.get(path).status == 410
    assert len(held(site)) == 1


def test_of_many_who_press_at_once_one_holds(site: Site) -> None:
    path = path_of(keep_link(site.state_dir, ORIGIN, 7200.0, site.clock.wall()))
    form = {"content-type": "application/x-www-form-urlencoded", "origin": ORIGIN}

    async def all_at_once() -> list[int]:
        answers = await asyncio.gather(*(Visitor(site.app).answer("POST", path, form) for _ in range(20)))
        return sorted(answer.status for answer in answers)

    assert asyncio.run(all_at_once()) == [200, *[410] * 19]
    assert len(held(site)) == 1


def test_an_old_link_does_nothing(site: Site) -> None:
    path = path_of(keep_link(site.state_dir, ORIGIN, 7200.0, site.clock.wall()))
    site.clock.sleep(7 * 3600.0)
    answer = Visitor(site.app).post(path, {})
    assert (answer.status, "too old" in answer.text) == (410, True)
    assert held(site) == []


def test_a_link_needs_its_own_page_s_button(site: Site) -> None:
    path = path_of(keep_link(site.state_dir, ORIGIN, 7200.0, site.clock.wall()))
    assert Visitor(site.app).post(path, {}, origin="https://evil.example").status == 403
    assert Visitor(site.app).post(path, {}, origin="").status == 403
    assert held(site) == []


def test_a_forged_link_says_nothing_and_does_nothing(site: Site) -> None:
    path = path_of(keep_link(site.state_dir, ORIGIN, 7200.0, site.clock.wall()))
    forged = f"{path[:-1]}{'0' if path[-1] != '0' else '1'}"
    for answer in (Visitor(site.app).get(forged), Visitor(site.app).post(forged, {})):
        assert answer.status == 401
        assert "link" in answer.text
        assert "old" not in answer.text
    assert held(site) == []


def test_a_link_opens_nothing_but_itself(site: Site) -> None:
    nobody = Visitor(site.app)
    nobody.get(path_of(keep_link(site.state_dir, ORIGIN, 7200.0, site.clock.wall())))
    assert {nobody.get(path).status for path in EVERY_PATH} == {401}


def bad_requests(count: int) -> list[tuple[str, str, dict[str, str]]]:
    kinds: list[tuple[str, str, dict[str, str]]] = [
        ("GET", "/?token=wrong{}", {}),
        ("GET", "/", {"cookie": "idlewatch=99999999999.{:032x}." + "0" * 64}),
        ("GET", "/keep/7200-99999999999-{:032x}-" + "0" * 64, {}),
        ("POST", "/hold", {"origin": ORIGIN, "content-type": "application/x-www-form-urlencoded"}),
        ("GET", "/static/../{}", {}),
        ("DELETE", "/{}", {}),
        ("GET", "/api/series?from={}", {}),
        ("POST", "/stop", {"origin": "https://evil{}.example"}),
    ]
    found = []
    for number in range(count):
        method, path, headers = kinds[number % len(kinds)]
        found.append((method, path.format(number), {name: value.format(number) for name, value in headers.items()}))
    return found


@pytest.mark.slow
def test_ten_thousand_bad_requests_do_nothing_and_lock_nobody_out(site: Site) -> None:
    before = site.visitor()
    many = bad_requests(10_000)

    async def all_of_them() -> list[Answer]:
        stranger = Visitor(site.app)
        return [await stranger.answer(method, path, headers) for method, path, headers in many]

    statuses = {answer.status for answer in asyncio.run(all_of_them())}
    assert statuses == {401, 403, 404, 405, 429}
    assert done(site) == []
    assert site.visitor().get("/").status == 200
    assert before.get("/api/status").status == 200
    assert Visitor(site.app).get(path_of(keep_link(site.state_dir, ORIGIN, 60.0, site.clock.wall()))).status == 200


@pytest.mark.slow
def test_failures_leave_nothing_behind_that_grows(site: Site) -> None:
    stranger = Visitor(site.app)

    async def some(count: int) -> None:
        for method, path, headers in bad_requests(count):
            await stranger.answer(method, path, headers)

    asyncio.run(some(400))
    gc.collect()
    before = len(gc.get_objects())
    asyncio.run(some(2000))
    gc.collect()
    assert len(gc.get_objects()) - before < 400


def test_by_https_the_cookie_belongs_to_this_host_alone(site: Site) -> None:
    visitor = replace(Visitor(site.app), headers={"host": "abc-8040.proxy.runpod.net"})
    answer = visitor.log_in(site.token)
    assert answer.headers["set-cookie"].startswith("__Host-idlewatch=")
    assert answer.headers["set-cookie"].endswith("Secure; Path=/")
    assert visitor.get("/").status == 200
    assert visitor.cookie
    visitor.cookie = visitor.cookie.removeprefix("__Host-")
    assert visitor.get("/").status == 401
    assert HOST not in answer.text
