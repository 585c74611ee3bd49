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
PATIENCE_MILLISECONDS = 30_000
"""For everything that must come: a busy machine is no fault. Playwright's own is 5 s."""

expect.set_options(timeout=PATIENCE_MILLISECONDS)

ARGUMENTS = [
    "--no-sandbox",  # as root, in a container, there is none
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",  # nothing but loopback
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")  # no longer: Playwright's loop runs meanwhile, and other tests have their own
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
    """A person at the dashboard, and everything that the browser complained of meanwhile."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MILLISECONDS)
        self.url = url
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", lambda line: self._note(line.type, line.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "request", lambda asked: None if asked.url.startswith(url) else self.foreign.append(asked.url)
        )

    def _note(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def open(self, path: str = "/dashboard") -> None:
        self.page.goto(f"{self.url}{path}")

    def sign_in(self, key: str = ADMIN_KEY) -> None:
        self.open()
        self.page.get_by_label("Admin key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()


OpenVisitor = Callable[..., Visitor]


@pytest.fixture
def visitor_of(browser: Browser, proxy: Proxy) -> Iterator[OpenVisitor]:
    """Opens browsers of their own at the dashboard; in the end none of them may have complained."""
    contexts: list[tuple[BrowserContext, Visitor]] = []

    def opened(**options: Any) -> Visitor:  # noqa: ANN401 - as Playwright has them
        context = browser.new_context(**options)
        visitor = Visitor(context, f"http://127.0.0.1:{proxy.port}")
        contexts.append((context, visitor))
        return visitor

    yield opened
    for context, visitor in contexts:
        context.close()
        assert not visitor.complaints
        assert not visitor.foreign
