"""`/docs` in a real Chromium: it shows the document, tries an operation, and loads no other site's files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from ridges_proxy.web.openapi.operations import ADMIN_OPERATIONS, OPERATIONS
from tests.support.app import PROXY_KEY

if TYPE_CHECKING:
    from tests.browser.conftest import OpenVisitor


def test_the_docs_show_all_operations_and_one_can_be_tried(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of()
    visitor.open("/docs")
    page = visitor.page
    expect(page.locator(".opblock")).to_have_count(len(OPERATIONS) + len(ADMIN_OPERATIONS))
    page.get_by_role("button", name="Authorize").first.click()
    page.get_by_label("auth-bearer-value").first.fill(PROXY_KEY)
    page.get_by_role("button", name="Apply credentials").first.click()
    page.get_by_role("button", name="Close").first.click()
    page.locator("#operations-openai-v1_list_models .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    live = page.locator("#operations-openai-v1_list_models .live-responses-table")
    expect(live.locator(".response-col_status").last).to_contain_text("200")
    expect(live.locator(".response-col_description").last).to_contain_text("deepseek-ai/DeepSeek-V3-0324")


def test_the_docs_follow_the_look_of_the_browser(visitor_of: OpenVisitor) -> None:
    page = (visitor := visitor_of(color_scheme="dark")).page
    visitor.open("/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    expect(page.locator("html")).to_have_class("dark-mode")
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).not_to_have_class("dark-mode")
