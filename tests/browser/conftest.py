"""A real Chromium, the system's, driven through Playwright; the pages come from a real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.process.server import Proxy
from tests.support.app import ADMIN_KEY
from tests.support.chutes import chutes, fake_chutes
from tests.support.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

__all__ = ["chutes", "fake_chutes"]

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TOKEN_KEY = "run-token-key-of-the-browser-tests"
TIMEOUT_MILLISECONDS = 30_000
"""Time limit of every wait, long enough for a busy machine. Playwright's default is 5 s."""

expect.set_options(timeout=TIMEOUT_MILLISECONDS)

ARGUMENTS = [
    "--no-sandbox",  # the sandbox does not work as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",  # only the tested pages make requests
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")  # not longer: Playwright's event loop would run beside other tests
def browser() -> Iterator[Browser]:
    program = PROGRAM or missing("chromium", "apt install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def proxy(fake_chutes: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("ledger")
    with Proxy(
        fake_chutes, LEDGER_URL=f"sqlite:///{folder}/ledger.db", WORKERS="2", RUN_TOKEN_KEY=TOKEN_KEY
    ) as started:
        yield started


class Visitor:
    """A person at the dashboard, with the errors that the browser has reported."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(TIMEOUT_MILLISECONDS)
        self.url = url
        self.browser_errors: list[str] = []
        self.foreign_requests: list[str] = []
        self.page.on("console", lambda line: self._record(line.type, line.text))
        self.page.on("pageerror", lambda error: self.browser_errors.append(str(error)))
        self.page.on(
            "request",
            lambda sent: None if sent.url.startswith(url) else self.foreign_requests.append(sent.url),
        )

    def _record(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.browser_errors.append(text)

    def open(self, path: str = "/dashboard") -> None:
        self.page.goto(f"{self.url}{path}")

    def sign_in(self, key: str = ADMIN_KEY) -> None:
        self.open()
        self.page.get_by_label("Admin key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()


OpenVisitor = Callable[..., Visitor]


@pytest.fixture
def visitor_of(browser: Browser, proxy: Proxy) -> Iterator[OpenVisitor]:
    """Opens separate browser contexts. At the end, none may have reported an error or a foreign request."""
    contexts: list[tuple[BrowserContext, Visitor]] = []

    def opened(**options: Any) -> Visitor:  # noqa: ANN401 - options of Playwright
        context = browser.new_context(**options)
        visitor = Visitor(context, f"http://127.0.0.1:{proxy.port}")
        contexts.append((context, visitor))
        return visitor

    yield opened
    for context, visitor in contexts:
        context.close()
        assert not visitor.browser_errors
        assert not visitor.foreign_requests
