"""Ids that are shortened and copied, and the keyboard on the dashboard's lists."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.test_dashboard import signed_in
from tests.support.table import check_rows

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import OpenVisitor
    from tests.process.server import Proxy

CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', {value: %s})"
CLIPBOARDS = {
    "as on http://": CLIPBOARD % "undefined",
    "refused": CLIPBOARD % "{writeText: () => Promise.reject(new Error())}",
    "as on https://": "",
}
"""Scripts that make the page's clipboard what it is in a situation."""


@pytest.fixture(scope="module")
def long_runs(proxy: Proxy) -> list[str]:
    """Thirty runs with ids that are too long for a column."""
    mark = uuid.uuid4().hex
    runs = [f"agent/{mark}/django__django-11099/attempt-{number:02d}" for number in range(30)]
    for run in runs:
        assert proxy.infer(run).status == 200
    return runs


def page_of(page: Page, runs: list[str], query: str = "") -> Page:
    """The list of these runs, by their id."""
    page.goto(f"{page.url.split('?')[0]}?search={runs[0].split('/')[1]}{query or '&sort=run_id'}")
    page.wait_for_load_state("load")
    return page


def test_an_id_is_copied_whole_with_any_clipboard(visitor_of: OpenVisitor, long_runs: list[str]) -> None:
    def check(name: str) -> None:
        visitor = visitor_of(permissions=["clipboard-read", "clipboard-write"])
        visitor.page.add_init_script(CLIPBOARDS[name])
        page = page_of(signed_in(visitor), long_runs)
        button = page.get_by_role("button", name=f"Copy {long_runs[1]}", exact=True)
        button.click()
        expect(page.locator("#copied")).to_have_text("Copied")
        expect(button).to_be_focused()
        page.get_by_role("searchbox").fill("")
        page.get_by_role("searchbox").press("Control+V")
        expect(page.get_by_role("searchbox")).to_have_value(long_runs[1])

    check_rows(CLIPBOARDS, check)


def test_a_long_id_is_shortened_in_the_middle_and_whole_at_the_focus(
    visitor_of: OpenVisitor, long_runs: list[str]
) -> None:
    page = page_of(signed_in(visitor_of()), long_runs)
    link = page.get_by_role("link", name=long_runs[0], exact=True)
    start = link.locator(".id-start")
    is_cut = "part => part.scrollWidth > part.clientWidth && part.clientWidth > 0"
    assert start.evaluate(is_cut)
    assert link.locator(".id-end").inner_text() == long_runs[0][-8:]
    assert link.inner_text() == long_runs[0]  # as it is selected and searched
    page.locator("#sort-idle").focus()
    page.keyboard.press("Tab")
    expect(link).to_be_focused()
    assert not start.evaluate(is_cut)


def test_without_javascript_there_is_the_id_and_no_button(
    visitor_of: OpenVisitor, long_runs: list[str]
) -> None:
    page = page_of(signed_in(visitor_of(java_script_enabled=False)), long_runs)
    expect(page.get_by_role("link", name=long_runs[0], exact=True)).to_be_visible()
    expect(page.locator(".copy").first).to_be_hidden()


def test_an_issued_token_is_copied_by_a_click(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of(permissions=["clipboard-read", "clipboard-write"])
    page = signed_in(visitor)
    visitor.open("/dashboard/tokens")
    page.locator("summary").click()
    page.get_by_label("Run", exact=True).fill("a-run")
    page.get_by_role("button", name="Issue a token").click()
    token = page.locator("textarea").input_value()
    page.get_by_role("button", name="Copy the token").click()
    expect(page.locator("#copied")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == token


def test_the_keyboard_goes_on_in_the_table_of_another_page(
    visitor_of: OpenVisitor, long_runs: list[str]
) -> None:
    page = page_of(signed_in(visitor_of()), long_runs, "&limit=25")
    page.locator("#page-next").focus()
    page.keyboard.press("Enter")
    expect(page.locator("table.runs tbody tr")).to_have_count(5)
    expect(page.get_by_role("region", name="Runs")).to_be_focused()
    page.locator("#size-50").click()
    expect(page.locator("table.runs tbody tr")).to_have_count(30)


def test_the_focus_stays_at_the_run_when_a_refresh_moves_its_row(
    visitor_of: OpenVisitor, proxy: Proxy, long_runs: list[str]
) -> None:
    page = page_of(signed_in(visitor_of()), long_runs, "&sort=calls")
    last = page.locator("table.runs tbody th a").last
    run = last.inner_text()
    last.focus()
    assert proxy.infer(run).status == 200
    first = page.locator("table.runs tbody th a").first
    expect(first).to_have_text(run)  # it has the most calls now
    expect(first).to_be_focused()
