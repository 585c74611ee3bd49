"""The audit trail and issued tokens in a real Chromium, against a real server with two workers."""

from __future__ import annotations

import csv
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.test_dashboard import signed_in
from tests.support.app import OPERATOR

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.browser.conftest import OpenVisitor
    from tests.process.server import Proxy


def first_action(page: Page) -> Locator:
    return page.locator("table.trail tbody tr").first


def test_the_page_shows_what_an_operator_did_a_moment_ago(visitor_of: OpenVisitor, proxy: Proxy) -> None:
    run = uuid.uuid4().hex
    proxy.infer(run)
    watcher, operator = visitor_of(), visitor_of()
    watching, page = signed_in(watcher), signed_in(operator)
    watcher.open("/dashboard/audit")
    expect(first_action(watching)).to_contain_text("signed in")
    operator.open(f"/dashboard/run?run_id={run}")
    page.get_by_text("Close the run").click()
    page.get_by_role("button", name=f"Close {run}").click()
    expect(page.get_by_role("status")).to_contain_text("Closed")
    row = first_action(watching)  # the open page refreshes itself
    expect(row).to_contain_text("run closed")
    expect(row).to_contain_text("127.0.0.1")
    expect(row.locator("td .id")).to_have_attribute("title", re.compile(r"^[0-9a-f]{32}$"))
    row.get_by_role("button", name=re.compile("^Copy [0-9a-f]{32}$")).last.click()
    expect(watching.locator("#copied")).to_have_text("Copied")
    row.get_by_role("link").click()
    expect(watching.get_by_text("The run cannot make calls any more").first).to_be_visible()


def test_the_trail_is_filtered_and_saved_as_csv(visitor_of: OpenVisitor, proxy: Proxy) -> None:
    run = uuid.uuid4().hex
    for _ in range(2):
        assert proxy.ask("POST", "/admin/runs", {"run_id": run}, OPERATOR).status == 200
    assert proxy.ask("POST", f"/admin/runs/{run}/close", {}, OPERATOR).status == 200
    visitor = visitor_of()
    page = signed_in(visitor)
    page.get_by_role("link", name="Audit", exact=True).click()
    page.get_by_role("combobox", name="Action").select_option("token issued")
    page.get_by_label("Run, budget or session").fill(run)
    page.get_by_role("button", name="Search").click()
    expect(page.locator("table.trail tbody tr")).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    with Path(download.value.path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["action"], row["subject"], row["actor"]) for row in rows] == [
        ("token_issued", run, "admin key")
    ] * 2


def test_a_token_is_listed_with_its_end_until_its_run_is_closed(
    visitor_of: OpenVisitor, proxy: Proxy
) -> None:
    run = uuid.uuid4().hex
    visitor = visitor_of()
    page = signed_in(visitor)
    page.get_by_role("link", name="Tokens", exact=True).click()
    page.locator("summary", has_text="Issue a token").click()
    page.get_by_label("Run", exact=True).fill(run)
    page.get_by_label("Budget in USD").fill("0.5")
    page.get_by_label("Lifetime in minutes").fill("10080")
    page.get_by_label("Groups").fill("miner:ann")
    page.get_by_role("button", name="Issue a token").click()
    expect(page.get_by_label("Token")).to_be_visible()
    visitor.open(f"/dashboard/tokens?run={run}")
    row = page.locator("table.tokens tbody tr")
    expect(row).to_contain_text("miner:ann")
    assert row.locator("td").all_inner_texts()[:2] == ["valid", "7 d"]
    assert proxy.ask("POST", f"/admin/runs/{run}/close", {}, OPERATOR).status == 200
    expect(row).to_contain_text("invalid: run closed")
