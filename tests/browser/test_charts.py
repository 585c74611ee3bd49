"""The charts as they are drawn, with data that the test puts into the page."""

from __future__ import annotations

import json
import re
import uuid
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.test_dashboard import signed_in
from tests.process.fake_chutes_control import directive
from tests.support.table import check_rows

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.browser.conftest import OpenVisitor
    from tests.process.server import Proxy

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
BARS = 61
TIMES = [1_800_000_000 + 60 * number for number in range(BARS)]
CODES = [
    "budget_exhausted",
    "invalid_api_key",
    "upstream_no_instance",
    "upstream_unreachable",
    "run_busy",
    "other codes",
]

Row = list[float | None]


def figures(calls: Row, errors: dict[str, Row]) -> dict[str, Any]:
    return {
        "now": TIMES[-1] + 30,
        "bar_seconds": 60,
        "bar_text": "minute",
        "times": TIMES,
        "usd": [["USD", [None if count is None else count / 100 for count in calls]]],
        "calls": [["succeeded", calls], ["failed", [None if count is None else 0 for count in calls]]],
        "errors": [*errors.items()],
        "latency": [["p50", calls], ["p95", calls], ["p99", calls]],
        "unplaced": [],
        "links": {code: f"/dashboard/calls?code={code}" for code in errors},
    }


def shown(page: Page, url: str, data: dict[str, Any]) -> None:
    """Open the dashboard with other figures in its charts."""

    def answer(route: Route) -> None:
        reply = route.fetch()
        script = rf"\1{json.dumps(data)}\2"
        body = re.sub(r'(<script[^>]* id="chart-data">).*?(</script>)', script, reply.text(), flags=re.DOTALL)
        route.fulfill(response=reply, body=body)

    page.route("**/dashboard", answer, times=1)
    page.goto(f"{url}/dashboard")
    page.get_by_role("button", name="Pause").click()


def row(**values: float) -> Row:
    """A row of zeros, but for the values of some bars, by their numbers as `at_7`."""
    return [values.get(f"at_{number}", 0) for number in range(BARS)]


def heights_of(page: Page, chart: str) -> list[int]:
    """The heights of the bars of a chart in pixels, from left to right. Nothing else in it is green."""
    columns: list[int] = page.evaluate(
        """chart => {
            const canvas = document.querySelector(`[data-chart=${chart}] canvas`);
            const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            const columns = Array(canvas.width).fill(0);
            for (let at = 0; at < data.length; at += 4)
                if (data[at + 3] > 128 && data[at + 1] > data[at] + 50) columns[(at / 4) % canvas.width]++;
            return columns;
        }""",
        chart,
    )
    return [max(bar) for is_bar, bar in groupby(columns, key=bool) if is_bar]


def test_a_bar_is_as_high_as_its_count_and_a_zero_has_none(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of(**DESKTOP)
    visitor.sign_in()
    shown(visitor.page, visitor.url, figures(row(at_5=40, at_20=20, at_40=10), {}))
    first, second, third = heights_of(visitor.page, "calls")
    assert [first / second, second / third] == [pytest.approx(2, rel=0.15), pytest.approx(2, rel=0.15)]


def test_legends_are_whole_and_say_the_values_under_the_pointer(visitor_of: OpenVisitor) -> None:
    visitors = {name: visitor_of(**look) for name, look in (("desktop", DESKTOP), ("phone", PHONE))}

    def check(look: str) -> None:
        visitor = visitors[look]
        visitor.sign_in()
        errors = {code: row(at_30=number + 1) for number, code in enumerate(CODES)}
        shown(visitor.page, visitor.url, figures(row(at_30=7), errors))
        chart = visitor.page.locator("#errors")
        cut = chart.evaluate(
            """figure => [...figure.querySelectorAll('.u-legend tr')].filter(row =>
                row.getBoundingClientRect().right > figure.getBoundingClientRect().right
                || row.scrollWidth > row.clientWidth + 1).map(row => row.textContent)"""
        )
        assert cut == []
        plot = chart.locator(".u-over")
        box = plot.bounding_box()
        assert box
        plot.hover(position={"x": box["width"] * 30.9 / BARS, "y": 20})
        values = chart.locator(".u-legend tr:not(:first-child) .u-value")
        assert values.all_inner_texts() == [str(number + 1) for number in range(len(CODES))]

    check_rows(visitors, check)


def test_a_chart_without_values_is_a_sentence(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of(**DESKTOP)
    visitor.sign_in()
    nothing: Row = [None] * BARS
    for calls in (row(), nothing):
        shown(visitor.page, visitor.url, figures(calls, {}))
        expect(visitor.page.locator(".charts canvas")).to_have_count(0)
        for sentence in ("No errors in the last hour.", "No costs in the last hour."):
            expect(visitor.page.get_by_text(sentence)).to_be_visible()


def test_an_error_in_the_legend_and_in_the_numbers_leads_to_its_calls(
    visitor_of: OpenVisitor, proxy: Proxy
) -> None:
    proxy.infer(uuid.uuid4().hex, directive(fault="at_capacity"))
    page = signed_in(visitor_of(**DESKTOP))
    page.locator("#errors .u-legend").get_by_role("link", name="upstream_busy").click()
    expect(page.get_by_label("Outcome")).to_have_value("upstream_busy")
    page.go_back()
    page.get_by_text("The charts in numbers").click()
    page.locator("#figures").get_by_role("link", name="upstream_busy").click()
    expect(page.get_by_label("Outcome")).to_have_value("upstream_busy")
