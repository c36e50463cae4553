"""
The page in a real Chromium, over a real daemon and RunPod's API on loopback.

Needs Debian's `chromium`, `npm` (axe-core is fetched from its registry) and Python's `playwright`. Screenshots go to
the folder that SCREENSHOTS names, else to the test's own.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from idlewatch.demo.loopback_api import LoopbackPod
from idlewatch.machine_clock import MachineClock
from idlewatch.state_folder import only_daemon
from idlewatch.web import keep_link
from idlewatch.web.keys import keys_of
from tests.web_prefix_proxy import below_a_prefix
from tests.web_process import Served, served
from tests.web_state import SetClock, fill_history, show_status
from tests.whole_path import POD_ID, Place, simulated

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
WITHIN_MS = 30_000.0
SCREENSHOTS = Path(os.environ["SCREENSHOTS"]) if os.environ.get("SCREENSHOTS") else None


@dataclass
class Watched:
    """A Pod with a daemon and a page."""

    pod: Place
    page: Served
    browser: Browser
    shots: Path
    problems: list[str] = field(default_factory=list)
    """What any page complained of."""

    @property
    def url(self) -> str:
        return self.page.url

    @property
    def link(self) -> str:
        return f"{self.url}/?token={keys_of(self.pod.state_dir).token}"

    def context(self, **options: Any) -> BrowserContext:
        context = self.browser.new_context(**{"viewport": DESK, **options})
        context.set_default_timeout(WITHIN_MS)
        return context

    def opened(self, address: str | None = None, **options: Any) -> Page:
        page = self.context(**options).new_page()
        page.on("console", lambda message: self._said(message.text, message.location["url"]))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("requestfailed", lambda request: self._failed(request.url, request.failure))
        page.goto(address or self.link)
        return page

    def _said(self, text: str, url: str) -> None:
        """The icon that a browser looks for by itself, where a page names none, is no part of ours."""
        if not url.endswith("/favicon.ico"):
            self.problems.append(f"{url}: {text}")

    def _failed(self, url: str, failure: str | None) -> None:
        """A request that ends with its page has not failed."""
        if failure != "net::ERR_ABORTED":
            self.problems.append(f"{url}: {failure}")

    def shoot(self, page: Page, name: str) -> None:
        page.screenshot(path=self.shots / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=WITHIN_MS)
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def watched(tmp_path: Path, browser: Browser) -> Iterator[Watched]:
    with simulated(tmp_path, LoopbackPod(pod_id=POD_ID)) as pod:
        pod.settings = {"IDLEWATCH_IDLE_AFTER": "1h", "IDLEWATCH_INTERVAL": "1s"}
        clock = MachineClock()
        fill_history(pod.state_dir, SetClock(clock.now_s(), clock.wall()), days=0.3)
        pod.start()
        pod.until(lambda: bool(pod.status()))
        with served(pod.state_dir) as page:
            shots = SCREENSHOTS or tmp_path / "screenshots"
            shots.mkdir(parents=True, exist_ok=True)
            yield Watched(pod, page, browser, shots)


def test_signing_in_by_the_link_shows_live_values_and_keeps_the_token_nowhere(watched: Watched) -> None:
    page, token = watched.opened(), keys_of(watched.pod.state_dir).token
    expect(page.locator("#state")).to_contain_text("Idle for")
    assert page.url == f"{watched.url}/"
    assert token not in page.content()
    before = page.inner_text("#state")
    expect(page.locator("#state")).not_to_have_text(before)
    expect(page.locator("#signals tr")).to_have_count(1)
    page.go_back()
    assert token not in page.url
    assert watched.problems == []


def test_without_the_link_there_is_nothing_to_see(watched: Watched) -> None:
    page = watched.context().new_page()
    page.goto(watched.url)
    assert "idlewatch web --link" in page.inner_text("body")
    assert page.locator("script, link, form").count() == 0


def test_a_hold_is_placed_seen_by_the_daemon_and_released(watched: Watched) -> None:
    page = watched.opened()
    page.click("text=Keep 2 h")
    expect(page.locator("#said")).to_have_text("Held for 2h.")
    expect(page.locator("#holds")).to_contain_text("the page")
    watched.pod.until(lambda: "held by the page" in str(watched.pod.status().get("reason")))
    expect(page.locator("#state")).to_contain_text("Held for")
    page.click("#holds >> text=Release")
    expect(page.locator("#holds")).to_have_text("None.")
    watched.pod.until(lambda: "held" not in str(watched.pod.status().get("reason")))
    assert watched.problems == []


def test_a_stop_is_confirmed_taken_back_and_carried_out(watched: Watched) -> None:
    page = watched.opened()
    page.click("text=Stop now")
    page.click("text=No, go back")
    assert not (watched.pod.state_dir / "requests" / "stop.json").exists()
    page.click("text=Stop now")
    watched.shoot(page, "stop")
    page.click("text=Save and stop it")
    expect(page.locator("#state")).to_contain_text("Saves and stops in")
    watched.shoot(page, "stopping")
    page.click("text=Take the stop back")
    expect(page.locator("#state")).to_contain_text("Idle for")
    page.click("text=Stop now")
    page.check("text=30 seconds")
    page.click("text=Save and stop it")
    watched.pod.until(watched.pod.stopped, within_s=120.0)
    assert watched.pod.kinds()[-3:] == ["save", "save done", "stop"]
    assert watched.problems == []


def test_a_save_is_asked_for_shown_and_listed_and_holds_stand_in_the_timeline(watched: Watched) -> None:
    (watched.pod.disk / "root").mkdir(parents=True, exist_ok=True)
    (watched.pod.disk / "root/notes.txt").write_text("what a stop would wipe")
    page = watched.opened()
    page.click("text=Keep 30 m")
    page.click("text=Save now")
    expect(page.locator("#save-words")).to_contain_text("asked for by the page")
    expect(page.locator("#snapshots")).to_contain_text("brings one back")
    assert "Not saved" not in page.inner_text("#save-words")
    expect(page.locator("#save button")).to_be_enabled()
    watched.shoot(page, "saved")
    page.reload()
    expect(page.locator("#events")).to_contain_text("saved on request")
    expect(page.locator("#events")).to_contain_text("hold placed")
    assert {"hold placed", "saved on request"} <= set(watched.pod.kinds())
    assert watched.problems == []


def test_charts_zoom_hover_and_go_back(watched: Watched) -> None:
    page = watched.opened()
    chart = page.locator("#charts .chart").first
    chart.locator(".uplot").wait_for()
    expect(page.locator("#charts .chart")).to_have_count(6)
    whole = page.inner_text("#window")
    chart.scroll_into_view_if_needed()
    box = chart.locator(".u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + 100, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 45, steps=5)
    page.mouse.up()
    expect(page.locator("#window")).to_contain_text("Back to 6h")
    watched.shoot(page, "zoomed")
    page.click("text=Back to 6h")
    expect(page.locator("#window")).to_contain_text(whole.rpartition(". ")[2])
    lanes = page.locator("#lanes .u-over")
    lanes.scroll_into_view_if_needed()
    lanes.hover(position={"x": 300, "y": 30})
    expect(page.locator("#lane-says b")).to_contain_text("gpu")
    page.click("[data-range='7d']")
    expect(page.locator("[data-range='7d'][aria-pressed='true']")).to_be_visible()
    expect(page.locator("#window")).to_contain_text("a point is 21m")
    assert watched.problems == []


def test_many_gpus_are_rows_and_each_is_read_by_pointing_at_it(tmp_path: Path, browser: Browser) -> None:
    clock = MachineClock()
    fill_history(tmp_path, SetClock(clock.now_s(), clock.wall()), days=0.3, gpus=8)
    with served(tmp_path) as page_:
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(f"{page_.url}/?token={keys_of(tmp_path).token}")
        chart = page.locator("#charts .chart").first
        expect(chart.locator(".legend.heat")).to_contain_text(" to ")
        rows = chart.locator(".u-over")
        rows.scroll_into_view_if_needed()
        box = rows.bounding_box()
        assert box
        rows.hover(position={"x": box["width"] - 5, "y": box["height"] / 16})
        expect(chart.locator(".legend.heat")).to_contain_text("gpu0 ")
        rows.hover(position={"x": box["width"] - 5, "y": box["height"] * 15 / 16})
        expect(chart.locator(".legend.heat")).to_contain_text("gpu7 ")


def test_a_stop_that_is_not_confirmed_a_hung_daemon_and_a_dead_one_are_said_in_large(
    tmp_path: Path, browser: Browser
) -> None:
    clock = MachineClock()
    trouble = "RunPod accepted it 12m ago, and this is still the same start"
    with served(tmp_path) as page_:
        page = browser.new_page()
        heading, reason = page.locator("#state"), page.locator("#reason")
        with only_daemon(tmp_path):
            show_status(tmp_path, clock.now_s() + 4.0, phase="stopping", troubles={"STOP NOT CONFIRMED": trouble})
            page.goto(f"{page_.url}/?token={keys_of(tmp_path).token}")
            expect(heading).to_have_text("Stop not confirmed: it still runs")
            expect(reason).to_have_text(trouble)
            expect(page.locator("#troubles")).to_be_hidden()
            expect(page.locator("#stop-link")).to_be_hidden()
            show_status(tmp_path, clock.now_s() - 300.0)
            expect(heading).to_contain_text("The daemon hangs")
            expect(page.locator("#h-signals")).to_have_text("Signals, as they were seen last")
        show_status(tmp_path, clock.now_s())
        expect(heading).to_have_text("Nothing guards this Pod")
        expect(reason).to_contain_text("ended without a word")
        expect(page.locator("#heard")).to_have_text("nothing new comes from the daemon")


def test_lanes_are_read_with_the_arrow_keys(watched: Watched) -> None:
    page = watched.opened()
    page.locator("#lanes .uplot").wait_for()
    page.focus("#lanes")
    for key, lane in (("ArrowDown", "gpu"), ("ArrowDown", "host"), ("ArrowUp", "gpu")):  # holds come first
        page.keyboard.press(key)
        expect(page.locator("#lane-says b")).to_contain_text(lane)
    before = page.inner_text("#lane-says")
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#lane-says")).not_to_have_text(before)
    assert watched.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("desk", DESK), ("phone", PHONE)])
def test_it_fits_every_screen(watched: Watched, scheme: Any, name: str, size: Any) -> None:
    page = watched.opened(viewport=size, color_scheme=scheme)
    page.locator("#charts .uplot").first.wait_for()
    expect(page.locator("#signals tr")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, colour[4:-1].split(","))) < 200) is (scheme == "dark")
    watched.shoot(page, f"{name}-{scheme}")
    assert watched.problems == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The newest axe-core of version 4, from the npm registry."""
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(["npm", "pack", "--silent", "axe-core@4"], cwd=folder, check=True, timeout=120)
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        script = packed.extractfile("package/axe.min.js")
        assert script
        return script.read().decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out_by_how_it_is_made(watched: Watched, axe: str, scheme: Any) -> None:
    """The policy would not let axe in; what is looked at is the same page."""
    keep = keep_link(watched.pod.state_dir, watched.url, 7200.0, MachineClock().wall())
    page = watched.context(bypass_csp=True, color_scheme=scheme).new_page()
    page.goto(watched.link)
    page.locator("#charts .uplot").first.wait_for()
    for address in (None, f"{watched.url}/stop", keep):
        if address:
            page.goto(address)
        page.add_script_tag(content=axe)
        found = page.evaluate("axe.run(document)")
        assert [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found["violations"]] == []
        assert len(found["passes"]) > 5


def test_a_link_in_a_notice_asks_before_it_holds(watched: Watched) -> None:
    page = watched.opened(keep_link(watched.pod.state_dir, watched.url, 7200.0, MachineClock().wall()), viewport=PHONE)
    watched.shoot(page, "keep")
    assert list((watched.pod.state_dir / "holds").glob("*.json")) == []
    page.click("text=Keep it for 2h")
    expect(page.locator("p")).to_contain_text("Held for 2h.")
    watched.pod.until(lambda: "held by the link in a notice" in str(watched.pod.status().get("reason")))
    page.goto(page.url)
    expect(page.locator("p")).to_contain_text("used already")
    assert [problem for problem in watched.problems if "410" not in problem] == []


def test_below_a_prefix_all_of_it_works(watched: Watched) -> None:
    with below_a_prefix(watched.page.port) as address:
        page = watched.opened(f"{address}/?token={keys_of(watched.pod.state_dir).token}")
        page.locator("#charts .uplot").first.wait_for()
        page.click("text=Keep 30 m")
        expect(page.locator("#said")).to_have_text("Held for 30m.")
        page.click("text=Stop now")
        page.click("text=Save and stop it")
        expect(page.locator("#state")).to_contain_text("Saves and stops in")
        (cookie,) = page.context.cookies()
        assert cookie["path"] == "/user/ann/proxy/8990"
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        page.click("text=Sign out")
        expect(page.locator("body")).to_contain_text("Signed out.")
        page.context.close()
    assert watched.problems == []


def test_what_a_stop_would_wipe_and_the_saved_copies(watched: Watched) -> None:
    page = watched.opened()
    page.click("[data-measure=loss]")
    page.click("[data-measure=snapshots]")
    expect(page.locator("#loss")).not_to_contain_text("Looking")
    expect(page.locator("#snapshots")).not_to_contain_text("Looking")
    assert "undefined" not in page.inner_text("main")
    assert watched.problems == []
