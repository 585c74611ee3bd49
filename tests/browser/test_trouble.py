"""The announcements of a screen reader about what is wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Route

    from tests.browser.conftest import OpenVisitor

REFRESHES_MILLISECONDS = 10_000


def with_trouble(page: str, *items: str) -> str:
    """The page as it looks while something is wrong."""
    shown = "".join(f'<li class="bad"><span><a href="#errors">{item}.</span></li>' for item in items)
    found = f"<ul>{shown}</ul>" if items else "<p>All is well.</p>"
    return re.sub(r'(<section id="trouble"[^>]*>).*?(</section>)', rf"\1{found}\2", page, flags=re.DOTALL)


def answer_with(items: list[str]) -> Callable[[Route], None]:
    def answer(route: Route) -> None:
        reply = route.fetch()
        route.fulfill(response=reply, body=with_trouble(reply.text(), *items))

    return answer


def test_trouble_is_said_when_it_appears_and_not_at_each_refresh(visitor_of: OpenVisitor) -> None:
    visitor = visitor_of()
    page = visitor.page
    page.clock.install()
    visitor.sign_in()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    page.evaluate(
        """() => {
            window.said = [];
            const spoken = document.getElementById('spoken');
            new MutationObserver(() => said.push(spoken.textContent)).observe(spoken, {childList: true});
        }"""
    )
    for items in (
        ["Calls are waiting</a>: 1 call"],
        ["Calls are waiting</a>: 2 calls"],
        ["A circuit breaker is open</a>: x", "Calls are waiting</a>: 2 calls"],
        [],
        [],
    ):
        page.unroute_all()
        page.route("**/dashboard", answer_with(items))
        with page.expect_response("**/dashboard"):
            page.clock.run_for(REFRESHES_MILLISECONDS)
        shown = items[0].replace("</a>", "") if items else "All is well."
        expect(page.locator("#trouble")).to_contain_text(shown)
    assert page.evaluate("said") == [
        "Calls are waiting.",
        "A circuit breaker is open. Calls are waiting.",
        "All is well.",
    ]
