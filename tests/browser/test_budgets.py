"""The budgets above the runs in a real Chromium, against a real server with two workers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ridges_proxy.auth.run_tokens import RunTokens
from ridges_proxy.ledger import LevelQuery, SqliteLedger
from tests.browser.conftest import TOKEN_KEY
from tests.browser.test_dashboard import PHONE, signed_in
from tests.process.server import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.browser.conftest import OpenVisitor
    from tests.process.fake_chutes_control import Upstream

RUN = "run-of-ann"
LONG_GROUP = f"miner:{'x' * 94}"
"""A group of the maximum length, without a place for a line break."""
GROUPS = {RUN: "miner:ann", "run-of-bob": "miner:bob", "run-of-eve": LONG_GROUP}
BUDGETS = [
    {"name": "all", "usd": "50", "window": "lifetime"},
    {"name": "miner", "usd": "5", "window": "lifetime", "group": "miner:*"},
]
IS_WHOLE = "cell => cell.scrollWidth <= cell.clientWidth"


@pytest.fixture(scope="module")
def ledger_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledger") / "ledger.db"


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream, ledger_path: Path) -> Iterator[Proxy]:
    with Proxy(
        fake_chutes,
        LEDGER_URL=f"sqlite:///{ledger_path}",
        WORKERS="2",
        RUN_TOKEN_KEY=TOKEN_KEY,
        BUDGETS=json.dumps(BUDGETS),
    ) as started:
        yield started


def call(proxy: Proxy, run: str, prompt: str = "hi", **fields: object) -> int:
    token, _ = RunTokens(TOKEN_KEY, None).issue(run, 600, groups=(GROUPS[run],))
    return proxy.infer(run, prompt, {"Authorization": f"Bearer {token}"}, **fields).status


@pytest.fixture(scope="module")
def used(proxy: Proxy, ledger_path: Path) -> None:
    """A call of each run. Then the budget of Bob is used up, and that of Ann is used to 85 %."""
    assert [call(proxy, run) for run in GROUPS] == [200] * len(GROUPS)
    ledger = SqliteLedger(ledger_path, 1200.0)
    spent = {usage.level.scope: usage.spent_nanousd for usage in ledger.list_levels(LevelQuery()).levels}
    ledger.set_amount("miner", "group:miner:ann", spent["group:miner:ann"] * 100 // 85)
    ledger.set_amount("miner", "group:miner:bob", spent["group:miner:bob"])
    ledger.disconnect()


def row_of(page: Page, text: str) -> str:
    return page.locator("table.levels tbody tr", has_text=text).locator(".share").inner_text()


def fill_of(page: Page, text: str) -> str:
    """The colour of the spent part of a level's bar."""
    part = page.locator("table.levels tbody tr", has_text=text).locator("rect.spent")
    return str(part.evaluate("part => getComputedStyle(part).fill"))


@pytest.mark.usefixtures("used")
def test_a_budget_near_its_end_is_marked_in_words_and_by_its_colour(visitor_of: OpenVisitor) -> None:
    page = signed_in(visitor_of())
    shown = [row_of(page, text) for text in ("all", "miner:ann", "miner:bob")]
    assert shown == ["<1 %", "85 %, nearly used up", "100 %, used up"]
    assert len({fill_of(page, text) for text in ("all", "miner:ann", "miner:bob")}) == len(shown)


@pytest.mark.usefixtures("used")
def test_the_budgets_refresh_themselves_and_a_search_keeps_them(
    visitor_of: OpenVisitor, proxy: Proxy
) -> None:
    page = signed_in(visitor_of())
    calls = page.locator("table.levels tbody tr", has_text="all").locator("td").last
    before = int(calls.inner_text())
    assert call(proxy, "run-of-eve") == 200
    expect(calls).to_have_text(str(before + 1))
    page.get_by_role("searchbox").fill("no such run")
    expect(page.get_by_text("No run matches.")).to_be_visible()
    expect(page.locator("table.levels tbody tr")).to_have_count(4)


@pytest.mark.usefixtures("used")
def test_a_budget_leads_to_its_levels_and_a_run_shows_its_own(visitor_of: OpenVisitor, proxy: Proxy) -> None:
    assert call(proxy, RUN, model="unknown") == 200  # with the text that agents expect
    visitor = visitor_of()
    page = signed_in(visitor)
    page.locator("table.levels").get_by_role("link", name="miner").first.click()
    expect(page.get_by_role("heading", name="Budgets")).to_be_visible()
    expect(page.locator("table.levels tbody tr")).to_have_count(3)
    expect(page.locator(".spans [aria-current]")).to_have_text("miner")
    visitor.open(f"/dashboard/run?run_id={RUN}")
    expect(page.locator("table.levels tbody th small")).to_have_text(["all", "group:miner:ann"])
    refused = page.get_by_role("region", name="Refused calls")
    expect(refused.get_by_role("row", name="model_not_found 1")).to_be_visible()


@pytest.mark.usefixtures("used")
def test_on_a_phone_no_code_of_an_error_is_cut_off(visitor_of: OpenVisitor, proxy: Proxy) -> None:
    assert call(proxy, "run-of-bob") == 200  # its budget is used up: the code is budget_exhausted
    visitor = visitor_of(**PHONE)
    page = signed_in(visitor)
    legend = page.locator("[data-chart=errors] .u-legend th", has_text="budget_exhausted")
    expect(legend).to_be_visible()
    assert legend.evaluate(IS_WHOLE)
    visitor.open("/dashboard/run?run_id=run-of-bob")
    row = page.get_by_role("region", name="Refused calls").get_by_role("rowheader")
    assert row.evaluate(IS_WHOLE)
