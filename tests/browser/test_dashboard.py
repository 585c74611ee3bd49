"""The dashboard in a real Chromium, against a real server with two workers."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.process.fake_chutes_control import directive
from tests.support.app import ADMIN_KEY
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator, Page, Route

    from tests.browser.conftest import OpenVisitor
    from tests.process.fake_chutes_control import Upstream
    from tests.process.server import Proxy

RUNS = 60
SEARCH_DELAY_MILLISECONDS = 300
"""Time without a key press before the dashboard searches (overview.html)."""
REFRESH_MILLISECONDS = 5_000
"""Time between two refreshes of the dashboard, at least REFRESH_SECONDS of the pages."""
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
}


@pytest.fixture(scope="module")
def busy(proxy: Proxy) -> list[str]:
    """Runs with increasing spent amounts. Of the first five, one call failed."""
    runs = [f"run-{number:03d}-{uuid.uuid4().hex[:8]}" for number in range(RUNS)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run: proxy.infer(run, "word " * 20 * (1 + runs.index(run))), runs))
        list(pool.map(lambda run: proxy.infer(run, directive(fault="at_capacity")), runs[:5]))
    return runs


def signed_in(visitor: Visitor) -> Page:
    visitor.sign_in()
    expect(visitor.page.get_by_role("heading", name="Runs")).to_be_visible()
    visitor.page.wait_for_load_state("load")  # text typed before the scripts have loaded is ignored
    return visitor.page


@pytest.fixture(scope="module")
def shared_visitor(browser: Browser, proxy: Proxy) -> Iterator[Visitor]:
    """A visitor that is signed in once, because every new browser context costs a second."""
    context = browser.new_context()
    visitor = Visitor(context, f"http://127.0.0.1:{proxy.port}")
    signed_in(visitor)
    yield visitor
    context.close()


@pytest.fixture
def operator(shared_visitor: Visitor) -> Iterator[Visitor]:
    """The shared visitor, on the dashboard. The test may not leave an error or a foreign request."""
    shared_visitor.browser_errors.clear()
    shared_visitor.foreign_requests.clear()
    shared_visitor.open()
    yield shared_visitor
    assert not shared_visitor.browser_errors
    assert not shared_visitor.foreign_requests


def ids_shown(page: Page) -> list[str]:
    return page.locator("table.runs tbody th a").all_inner_texts()


def calls_on(page: Page) -> Locator:
    """The rows of the calls on the page of a run."""
    return page.get_by_role("region", name="Calls", exact=True).locator("tbody tr")


def dollars(page: Page, column: int) -> list[float]:
    cells = page.locator(f"table.runs tbody td:nth-child({column})").all_inner_texts()
    return [float(cell.removeprefix("$").replace(",", "")) for cell in cells]


# --- signing in


def test_only_the_admin_key_signs_in(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of()
    visitor.sign_in("not-the-key")
    expect(visitor.page.get_by_role("alert")).to_have_text("Invalid key.")
    visitor.browser_errors.clear()  # of the 401
    visitor.page.get_by_label("Admin key").fill(ADMIN_KEY)
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_role("heading", name="Runs")).to_be_visible()
    (cookie,) = visitor.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/dashboard")
    assert ADMIN_KEY not in cookie["value"]
    visitor.page.get_by_role("button", name="Sign out").click()
    expect(visitor.page.get_by_label("Admin key")).to_be_visible()
    visitor.open()
    expect(visitor.page.get_by_label("Admin key")).to_be_visible()


def test_a_page_whose_session_ended_asks_for_the_key_again(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of()
    page = signed_in(visitor)
    page.context.clear_cookies()
    expect(page.get_by_label("Admin key")).to_be_visible()
    visitor.browser_errors.clear()  # of the 401


# --- the table


def test_runs_are_sorted_by_spent_amount_and_by_other_columns(operator: Visitor, busy: list[str]) -> None:
    page = operator.page
    expect(page.locator("table.runs tbody tr")).to_have_count(50)
    spent = dollars(page, 2)
    assert spent == sorted(spent, reverse=True)
    page.get_by_role("link", name="Run", exact=True).click()
    expect(page.locator("th[aria-sort]")).to_have_text(re.compile("Run"))
    assert ids_shown(page) == sorted(ids_shown(page))
    page.get_by_role("link", name="Next").click()
    expect(page.locator("table.runs tbody tr").first).to_contain_text(busy[50])


def test_search_finds_runs_while_typing_and_is_kept_in_the_url(operator: Visitor, busy: list[str]) -> None:
    page = operator.page
    page.get_by_role("searchbox").press_sequentially(busy[7][:11], delay=20)
    expect(page.locator("table.runs tbody tr")).to_have_count(1)
    assert ids_shown(page) == [busy[7]]
    expect(page.get_by_role("searchbox")).to_be_focused()
    expect(page).to_have_url(re.compile(busy[7][:11]))  # its beginning may have found the run already
    page.reload()
    assert ids_shown(page) == [busy[7]]
    page.get_by_role("searchbox").fill("no such run")
    expect(page.get_by_text("No run matches.")).to_be_visible()


def test_a_refresh_during_a_search_does_not_bring_all_runs_back(
    visitor_of: OpenVisitor, busy: list[str]
) -> None:
    visitor = visitor_of()
    page = visitor.page
    page.clock.install()
    signed_in(visitor)
    held: list[Route] = []

    def hold(route: Route) -> None:  # a function, because Playwright sets an attribute of its handlers
        held.append(route)

    page.route("**/dashboard?search=*", hold, times=1)
    page.get_by_role("searchbox").press_sequentially(busy[7][:11])
    with page.expect_request("**/dashboard?search=*"):
        page.clock.run_for(SEARCH_DELAY_MILLISECONDS)
    page.clock.run_for(REFRESH_MILLISECONDS)
    refreshes: list[str] = []
    page.on("request", lambda sent: refreshes.append(sent.url) if sent.resource_type == "fetch" else None)
    held[0].continue_()
    expect(page.locator("table.runs tbody tr")).to_have_count(1)
    with page.expect_response("**/dashboard?search=*"):
        page.clock.run_for(REFRESH_MILLISECONDS)
    assert all(busy[7][:11] in url for url in refreshes), refreshes
    assert ids_shown(page) == [busy[7]]


def test_the_bar_shows_the_spent_and_the_held_share(
    operator: Visitor, proxy: Proxy, chutes: Upstream
) -> None:
    run = uuid.uuid4().hex
    page = operator.page
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(proxy.infer, run, directive(gate="bar"))
        chutes.wait(at_gate=1)
        page.goto(f"{page.url}?search={run}")
        found = proxy.usage(run)
        spent, held = 100 * found.spent / found.budget, 100 * found.held / found.budget
        share = f"{spent:.0f} % spent, {held:.0f} % held"
        expect(page.get_by_role("img", name=re.compile(share))).to_be_visible()
        assert dollars(page, 3) == [round(found.held / 1e9, 6)]
        expect(page.locator("table.runs tbody td:nth-child(7)")).to_have_text("1")
        chutes.release("bar")
        assert call.result().status == 200


def test_the_page_refreshes_itself_without_moving_the_focus(operator: Visitor, proxy: Proxy) -> None:
    run = uuid.uuid4().hex
    page = operator.page
    page.goto(f"{page.url}?search={run}")
    expect(page.get_by_text("No run matches.")).to_be_visible()
    page.get_by_role("searchbox").focus()
    assert proxy.infer(run).status == 200
    expect(page.locator("table.runs tbody th a")).to_have_text(run)
    page.locator("#sort-calls").focus()
    assert proxy.infer(run).status == 200
    expect(page.locator("table.runs tbody td:nth-child(6)")).to_have_text("2")
    expect(page.locator("#sort-calls")).to_be_focused()


def test_the_charts_are_drawn_and_there_is_a_table_of_their_data(operator: Visitor, busy: list[str]) -> None:
    assert busy
    page = operator.page
    expect(page.locator(".charts canvas")).to_have_count(4)
    assert page.evaluate(
        "[...document.querySelectorAll('.charts canvas')].every(c => c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.some(v => v))"
    )
    page.get_by_text("The charts in numbers").click()
    expect(page.get_by_role("columnheader", name="upstream_busy")).to_be_visible()
    page.get_by_role("link", name="Last day").click()
    expect(page.locator(".spans [aria-current]")).to_have_text("Last day")


# --- one run


def test_a_runs_page_lists_its_calls_with_their_outcome(operator: Visitor, busy: list[str]) -> None:
    page = operator.page
    page.goto(f"{page.url}?search={busy[0]}")
    page.get_by_role("link", name=busy[0]).click()
    expect(page.get_by_role("heading", name=busy[0])).to_be_visible()
    rows = calls_on(page)
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("upstream_busy")
    expect(rows.last).to_contain_text("deepseek-ai/DeepSeek-V3-0324")


def test_a_run_with_any_id_has_a_page(operator: Visitor, proxy: Proxy) -> None:
    page = operator.page
    overview = page.url

    def check(run: str) -> None:
        assert proxy.infer(run).status == 200
        page.goto(overview)
        page.get_by_role("searchbox").fill(run)
        expect(page.locator("table.runs tbody tr")).to_have_count(1)
        page.locator("table.runs tbody th a").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(run)
        expect(calls_on(page)).to_have_count(1)

    check_rows(["../..", "a/b?c#d", "<b>run</b>", "\u043b\u0443\u0301\u043d 'x' \"y\"", "%2e%2e"], check)


def test_a_run_is_reset_and_closed_after_confirmation(operator: Visitor, proxy: Proxy) -> None:
    run = uuid.uuid4().hex
    assert proxy.infer(run).status == 200
    page = operator.page
    page.goto(f"{page.url}/run?run_id={run}")
    page.get_by_text("Reset the spent amount").click()
    page.get_by_role("button", name=f"Reset {run}").click()
    expect(page.get_by_role("status")).to_contain_text("Reset. The run had spent")
    assert proxy.usage(run).spent == 0
    page.get_by_text("Close the run").click()
    page.get_by_role("button", name=f"Close {run}").click()
    expect(page.get_by_role("status")).to_contain_text("Closed")
    expect(page.get_by_text("The run cannot make calls any more").first).to_be_visible()
    assert proxy.infer(run).outcome == (403, "run_closed")


def test_a_token_is_issued_and_spends(operator: Visitor, proxy: Proxy) -> None:
    run = uuid.uuid4().hex
    operator.open("/dashboard/tokens")
    page = operator.page
    page.locator("summary", has_text="Issue a token").click()
    page.get_by_label("Run", exact=True).fill(run)
    page.get_by_label("Budget in USD").fill("0.5")
    page.get_by_label("Calls per minute").fill("7")
    page.get_by_role("button", name="Issue a token").click()
    token = page.get_by_label("Token").input_value()
    assert proxy.infer(run, headers={"Authorization": f"Bearer {token}"}).status == 200
    assert proxy.ask("GET", f"/agents/usage?run_id={run}", None, {"Authorization": f"Bearer {token}"}).json[
        "max_cost_usd"
    ] == pytest.approx(0.5)


def test_an_invalid_token_form_is_refused_and_its_field_is_named(operator: Visitor) -> None:
    operator.open("/dashboard/tokens")
    page = operator.page
    page.locator("summary", has_text="Issue a token").click()
    page.get_by_label("Run", exact=True).fill("run")
    page.get_by_label("Budget in USD").fill("much")
    page.get_by_role("button", name="Issue a token").click()
    expect(page.get_by_role("listitem")).to_contain_text("budget_usd")
    operator.browser_errors.clear()  # of the 422


# --- accessibility


def test_signing_in_and_resetting_work_by_keyboard(visitor_of: OpenVisitor, proxy: Proxy) -> None:
    run = uuid.uuid4().hex
    assert proxy.infer(run).status == 200
    visitor = visitor_of()
    visitor.open()
    keys = visitor.page.keyboard
    keys.type(ADMIN_KEY)
    keys.press("Enter")
    expect(visitor.page.get_by_role("heading", name="Runs")).to_be_visible()
    keys.press("Tab")
    expect(visitor.page.get_by_text("Skip to the content")).to_be_focused()
    visitor.open(f"/dashboard/run?run_id={run}")
    for _ in range(20):
        keys.press("Tab")
        if visitor.page.locator("summary:focus", has_text="Reset the spent amount").count():
            break
    keys.press("Enter")
    keys.press("Tab")
    keys.press("Enter")
    expect(visitor.page.get_by_role("status")).to_contain_text("Reset. The run had spent")


def test_the_tables_and_the_actions_work_without_javascript(
    visitor_of: OpenVisitor, proxy: Proxy, busy: list[str]
) -> None:
    page = signed_in(visitor_of(java_script_enabled=False))
    expect(page.locator("table.runs tbody tr")).to_have_count(50)
    page.get_by_role("searchbox").fill(busy[3])
    page.get_by_role("button", name="Search").click()
    assert ids_shown(page) == [busy[3]]
    page.get_by_role("link", name=busy[3]).click()
    page.get_by_text("Reset the spent amount").click()
    page.get_by_role("button", name=f"Reset {busy[3]}").click()
    expect(page.get_by_role("status")).to_contain_text("Reset. The run had spent")
    assert proxy.usage(busy[3]).spent == 0
