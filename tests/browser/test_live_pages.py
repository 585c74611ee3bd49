"""How a live page says how old it is, and how it is paused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.support.table import check_rows

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import OpenVisitor, Visitor

STEP_MILLISECONDS = 1_000
PAGES = ["", "/budgets", "/run?run_id=any"]


@pytest.fixture
def visitor(visitor_of: OpenVisitor) -> Visitor:
    """A visitor whose browser has a clock that only the test moves."""
    visitor = visitor_of()
    visitor.page.clock.install()
    visitor.sign_in()
    expect(visitor.page.get_by_role("heading", name="Runs")).to_be_visible()
    visitor.page.clock.pause_at(visitor.page.evaluate("Date.now() / 1000 + 1"))
    return visitor


def open_page(visitor: Visitor, path: str) -> Page:
    visitor.open(f"/dashboard{path}")
    visitor.page.wait_for_load_state("load")
    return visitor.page


def refreshed(page: Page) -> None:
    """Move the clock until the page has tried to refresh itself. No refresh is under way afterwards."""
    with page.expect_request(lambda sent: sent.resource_type == "fetch") as refresh:
        while not refresh.is_done():  # by small steps: htmx gives up after ten seconds of this clock
            page.clock.run_for(STEP_MILLISECONDS)
    expect(page.locator("#live.htmx-request")).to_have_count(0)


def test_each_live_page_says_how_old_it_is_and_can_be_paused(visitor: Visitor) -> None:
    def check(path: str) -> None:
        page = open_page(visitor, path)
        age = page.locator("#updated")
        expect(age).to_have_text(re.compile(r"^Updated \d+ s ago\.$"))
        refreshed(page)
        page.get_by_role("button", name="Pause").click()
        expect(age).to_have_text(re.compile(r"^Paused\. Updated \d+ s ago, at [\d:]+\.$"))
        refreshes: list[str] = []
        page.on("request", lambda sent: refreshes.append(sent.url))
        page.clock.run_for(65_000)
        expect(age).to_have_text(re.compile(r"^Paused\. Updated 1 min ago"))
        assert refreshes == []
        with page.expect_response(lambda reply: reply.request.resource_type == "fetch"):
            page.get_by_role("button", name="Resume").click()
        page.clock.run_for(1000)
        expect(age).to_have_text(re.compile(r"^Updated [012] s ago\.$"))

    check_rows(PAGES, check)


def test_a_hidden_page_is_not_refreshed_until_it_is_seen_again(visitor: Visitor) -> None:
    page = open_page(visitor, "")
    show = """hidden => {
        Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(show, arg=True)
    refreshes: list[str] = []
    page.on("request", lambda sent: refreshes.append(sent.url))
    page.clock.run_for(65_000)
    assert refreshes == []
    with page.expect_response(lambda reply: reply.request.resource_type == "fetch"):
        page.evaluate(show, arg=False)


def test_a_failed_refresh_keeps_the_figures_and_says_so(visitor: Visitor) -> None:
    def check(failure: str) -> None:
        page = open_page(visitor, "/budgets")
        said = "the server does not answer" if failure == "abort" else f"the server answered {failure}"
        age = page.locator("#updated")
        page.route(
            "**/dashboard/budgets",
            lambda route: route.abort() if failure == "abort" else route.fulfill(status=int(failure)),
        )
        refreshed(page)
        expect(age).to_have_text(re.compile(rf"^Not updated since [\d:]+: {said}\.$"))
        expect(page.locator("#live")).to_contain_text("No calls in the present periods")
        page.unroute_all()
        refreshed(page)
        expect(age).to_have_text(re.compile(r"^Updated \d+ s ago\.$"))

    check_rows(["abort", "500", "503"], check)
    visitor.browser_errors.clear()  # of the failed requests


def test_a_refresh_that_fails_still_says_what_is_wrong(visitor: Visitor) -> None:
    page = open_page(visitor, "")
    expect(page.locator("#trouble")).to_have_text("All is well.")
    trouble = '<li class="bad"><a href="">The ledger fails</a></li>'
    shown = f'<section id="trouble" class="bad"><ul>{trouble}</ul></section>'
    page.route("**/dashboard", lambda route: route.fulfill(status=503, content_type="text/html", body=shown))
    refreshed(page)
    expect(page.locator("#trouble")).to_have_text("The ledger fails")
    expect(page.locator("#spoken")).to_have_text("The ledger fails.")
    expect(page.locator("#live")).to_contain_text("No runs yet")
    page.unroute_all()
    refreshed(page)
    expect(page.locator("#trouble")).to_have_text("All is well.")
    visitor.browser_errors.clear()  # of the failed requests


def test_without_javascript_a_page_says_of_what_time_it_is(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of(java_script_enabled=False)
    visitor.sign_in()
    expect(visitor.page.locator("#updated")).to_have_text(re.compile(r"^As of .*\d\d:\d\d:\d\d UTC\.$"))
    expect(visitor.page.get_by_role("button", name="Pause")).to_have_count(0)
