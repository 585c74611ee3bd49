"""Every page at every width, light and dark, full of texts of the maximum length."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from ridges_proxy.auth.run_tokens import RunTokens
from tests.browser.conftest import TOKEN_KEY, Visitor
from tests.browser.test_dashboard import signed_in
from tests.process.fake_chutes_control import directive
from tests.process.server import Proxy
from tests.support.app import OPERATOR
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.browser.conftest import OpenVisitor
    from tests.process.fake_chutes_control import Upstream

LONG_RUN = "x" * 256
LONG_GROUP = f"miner:{'g' * 94}"
BUDGETS = [
    {"name": "all", "usd": "50", "window": "day"},
    {"name": "miner", "usd": "5", "window": "lifetime", "group": "miner:*"},
]

WIDTHS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True},
}
SMALLEST: dict[str, Any] = {"viewport": {"width": 320, "height": 568}}
SCHEMES = ("light", "dark")
MAX_CALL_PIXELS = 120
"""Of a call in the list on a phone, in four lines: when and outcome, model, ids, figures."""

PAGES = {
    "runs": "/dashboard",
    "runs, none": "/dashboard?search=none-such",
    "calls": "/dashboard/calls",
    "calls, one": "/dashboard/calls?request=a-request",
    "spend": "/dashboard/spend",
    "budgets": "/dashboard/budgets",
    "tokens": "/dashboard/tokens",
    "audit": "/dashboard/audit",
    "run": f"/dashboard/run?run_id={LONG_RUN}",
    "error": "/dashboard?limit=0",
    "sign-in": "/dashboard/sign-in",
    "docs": "/docs",
}
OWN_TO_SWAGGER_UI = {"heading-order", "nested-interactive", "region"}
"""Rules that the markup of Swagger UI breaks. Style sheets cannot change that."""

CHECKS = {
    "resultTypes": ["violations"],  # no details of what passes
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
FITS = """() => {
    const tables = matchMedia("(max-width: 40rem)").matches ? document.querySelectorAll("table[role]") : [];
    return [document.documentElement, ...tables].every(part => part.scrollWidth <= innerWidth);
}"""
"""Whether a page is as wide as the screen. On a wide screen, a table may be wider: it scrolls."""


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder: Path = tmp_path_factory.mktemp("ledger")
    with Proxy(
        fake_chutes,
        LEDGER_URL=f"sqlite:///{folder}/ledger.db",
        WORKERS="2",
        RUN_TOKEN_KEY=TOKEN_KEY,
        BUDGETS=json.dumps(BUDGETS),
    ) as started:
        for run, group in ((LONG_RUN, LONG_GROUP), ("a-run", "miner:ann")):
            token, _ = RunTokens(TOKEN_KEY, None).issue(run, 600, groups=(group,))
            headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "a-request"}
            for prompt in ("hi", "word " * 200, directive(fault="at_capacity")):
                started.infer(run, prompt, headers)
            issued = {"run_id": run, "groups": [group], "models": ["m" * 256]}
            assert started.ask("POST", "/admin/runs", issued, OPERATOR).status == 200
        yield started


def shown(visitor: Visitor, name: str) -> Page:
    """The page with all that it has, opened."""
    page = visitor.page
    visitor.open(PAGES[name])
    page.wait_for_load_state("load")
    if name == "docs":
        expect(page.locator(".opblock").first).to_be_visible()
    elif name == "spend":
        expect(page.get_by_role("heading", name="By day")).to_be_visible()
    for summary in page.locator("main summary").all():
        summary.click()
    visitor.browser_errors.clear()  # of the error page's status
    return page


def test_axe_finds_nothing_on_any_page_and_none_is_wider_than_the_screen(visitor_of: OpenVisitor) -> None:
    axe = Axe()
    visitors = {
        (width, scheme): visitor_of(**WIDTHS[width], color_scheme=scheme)
        for width, scheme in product(WIDTHS, SCHEMES)
    }
    for visitor in visitors.values():
        signed_in(visitor)

    def check(row: tuple[tuple[str, str], str]) -> None:
        look, name = row
        page = shown(visitors[look], name)
        assert page.evaluate(FITS)
        found = axe.run(page, options=CHECKS).response["violations"]
        allowed = OWN_TO_SWAGGER_UI if name == "docs" else set()
        assert [
            (each["id"], each["nodes"][0]["html"][:200]) for each in found if each["id"] not in allowed
        ] == []

    check_rows(product(visitors, PAGES), check)


def test_no_page_is_wider_than_the_smallest_screen(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of(**SMALLEST)
    signed_in(visitor)

    def check(name: str) -> None:
        assert shown(visitor, name).evaluate(FITS)

    check_rows(PAGES, check)


def test_on_a_phone_the_pages_are_one_line_and_a_call_is_a_few(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of(**WIDTHS["phone"])
    signed_in(visitor)
    page = shown(visitor, "tokens")  # with the widest navigation: the present page is bold
    links = page.get_by_role("navigation", name="Pages", exact=True).get_by_role("link")
    assert len({link.bounding_box()["y"] for link in links.all()}) == 1  # type: ignore[index]
    shown(visitor, "calls")
    row = (
        page.get_by_role("region", name="Calls", exact=True).get_by_role("row").filter(has_text="a-run").last
    )
    box = row.bounding_box()
    assert box
    assert box["height"] < MAX_CALL_PIXELS


def test_on_a_phone_a_row_has_labels_and_stays_a_row_for_screen_readers(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of(**WIDTHS["phone"])
    page = signed_in(visitor)
    row = page.get_by_role("region", name="Runs").get_by_role("row", name="a-run")
    expect(row.get_by_role("cell")).not_to_have_count(0)
    expect(page.get_by_role("columnheader", name="Remaining").last).to_be_attached()
    label = row.locator("td").first.evaluate("cell => getComputedStyle(cell, '::before').content")
    assert label.startswith('"Spent "')
    bar, spent = row.get_by_role("img").bounding_box(), row.locator("td").first.bounding_box()
    assert bar
    assert spent
    assert bar["y"] >= spent["y"] + spent["height"]  # a line of its own, below the figures
    charts, runs = page.locator(".after-rows").bounding_box(), page.locator("#live").bounding_box()
    assert charts
    assert runs
    assert charts["y"] >= runs["y"] + runs["height"]
