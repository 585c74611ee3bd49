"""The pages of recent calls and of the spend in a real Chromium."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.test_dashboard import signed_in
from tests.process.fake_chutes_control import directive

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.browser.conftest import OpenVisitor
    from tests.process.server import Proxy


@pytest.fixture(scope="module")
def run(proxy: Proxy) -> str:
    """A run with a call that succeeded, and one that the upstream refused."""
    run = f"{uuid.uuid4().hex}-{'x' * 200}"
    assert proxy.infer(run).status == 200
    proxy.infer(run, directive(fault="at_capacity"))
    return run


def calls_on(page: Page) -> Locator:
    return page.get_by_role("region", name="Calls", exact=True).locator("tbody tr")


def test_a_code_leads_to_its_calls_and_a_call_to_all_of_its_fields(visitor_of: OpenVisitor, run: str) -> None:
    visitor = visitor_of()
    page = signed_in(visitor)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Calls").click()
    page.get_by_role("searchbox", name="Run").fill(run)
    page.get_by_role("button", name="Search").click()
    expect(calls_on(page)).to_have_count(2)
    page.get_by_role("link", name="upstream_busy").click()
    expect(page.get_by_label("Outcome")).to_have_value("upstream_busy")
    row = calls_on(page).filter(has_text=run[:32])
    expect(row.get_by_role("link", name=run, exact=True)).to_have_count(1)
    request = row.get_attribute("id")
    assert request
    row.locator(f"a[href*='{request.removeprefix('call-')}']").click()
    expect(page.get_by_role("heading", name="All fields")).to_be_visible()
    expect(page.locator("dl.facts")).to_contain_text("upstream_status")
    page.get_by_role("searchbox", name="Request").fill("no-such-request")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No call matches.")).to_be_visible()


def test_the_page_of_calls_shows_a_new_call_by_itself(visitor_of: OpenVisitor, proxy: Proxy) -> None:
    run = uuid.uuid4().hex
    visitor = visitor_of()
    signed_in(visitor)
    visitor.open(f"/dashboard/calls?run={run}")
    page = visitor.page
    expect(page.get_by_text("No call matches.")).to_be_visible()
    assert proxy.infer(run).status == 200
    expect(calls_on(page)).to_have_count(1)


def test_the_spend_of_a_run_is_in_the_sums_and_in_the_file(visitor_of: OpenVisitor, run: str) -> None:
    assert run
    page = signed_in(visitor_of())
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Spend").click()
    expect(page.get_by_role("region", name="By day").locator("tbody tr")).to_have_count(7)
    expect(page.get_by_role("region", name="By model")).to_contain_text("deepseek-ai/DeepSeek-V3-0324")
    page.get_by_role("link", name="Last 30 days").click()
    expect(page.get_by_role("region", name="By day").locator("tbody tr")).to_have_count(30)
    with page.expect_download() as download:
        page.get_by_role("link", name="By model, as CSV").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert re.search(r'^"deepseek-ai/DeepSeek-V3-0324",[1-9]', text, re.MULTILINE)


def test_the_pages_work_without_javascript(visitor_of: OpenVisitor, run: str) -> None:
    visitor = visitor_of(java_script_enabled=False)
    page = signed_in(visitor)
    visitor.open("/dashboard/calls")
    page.get_by_role("searchbox", name="Run").fill(run)
    page.get_by_label("Outcome").select_option("ok")
    page.get_by_role("button", name="Search").click()
    expect(calls_on(page)).to_have_count(1)
    visitor.open("/dashboard/spend?days=30")
    expect(page.get_by_role("region", name="By day").locator("tbody tr")).to_have_count(30)
