"""Calls in flight, and filters of runs by their state, in a real Chromium. The upstream holds the calls."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.test_dashboard import signed_in
from tests.process.fake_chutes_control import directive

if TYPE_CHECKING:
    from tests.browser.conftest import OpenVisitor
    from tests.process.fake_chutes_control import Upstream
    from tests.process.server import Proxy


def test_a_call_in_flight_is_a_row_until_it_ends(
    visitor_of: OpenVisitor, proxy: Proxy, chutes: Upstream
) -> None:
    run = uuid.uuid4().hex
    page = signed_in(visitor_of())
    page.get_by_role("link", name="Calls", exact=True).click()
    in_flight = page.get_by_role("region", name="Calls in flight")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(proxy.infer, run, directive(gate="row"))
        chutes.wait(at_gate=1)
        row = in_flight.get_by_role("row").filter(has_text=run)
        expect(row).to_contain_text("deepseek-ai/DeepSeek-V3-0324")
        expect(row.locator("time")).to_have_attribute("title", re.compile(r"\d\d:\d\d:\d\d UTC$"))
        expect(row.locator("time")).to_have_text(re.compile(r"^\d+ s ago$"))

        row.get_by_role("link", name=run, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(run)
        expect(in_flight.locator("tbody tr")).to_have_count(1)
        chutes.release("row")
        assert call.result().status == 200
        expect(in_flight).to_have_count(0)


def test_a_filter_follows_the_calls_in_flight_and_keeps_the_focus(
    visitor_of: OpenVisitor, proxy: Proxy, chutes: Upstream
) -> None:
    run = uuid.uuid4().hex
    visitor = visitor_of()
    page = signed_in(visitor)
    visitor.open(f"/dashboard?search={run}")
    link = page.locator("#state-in_flight")
    link.focus()
    expect(link).to_have_text("In flight 0")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(proxy.infer, run, directive(gate="filter"))
        chutes.wait(at_gate=1)
        expect(link).to_have_text("In flight 1")
        expect(link).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator(".filters [aria-current]")).to_have_text("In flight 1")
        expect(page.locator("table.runs tbody tr")).to_have_count(1)
        chutes.release("filter")
        assert call.result().status == 200
        expect(page.get_by_text("No run matches.")).to_be_visible()
        expect(link).to_have_text("In flight 0")
        expect(page.locator("#state-all")).to_have_text("All 1")
