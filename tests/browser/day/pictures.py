"""Pictures of the dashboard on a simulated day: `python -m tests.browser.day.pictures FOLDER`.

With `--all`, the folder gets each page at both widths, light and dark, of each scene:
FOLDER/SCENE/PAGE-WIDTH-LOOK.png. `--scenes`, `--pages`, `--widths` and `--looks` choose some of them.
Without it, the folder gets the pictures of the docs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS, PROGRAM
from tests.browser.day.scenes import END, SCENES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[3]

SIGN_IN = "/dashboard/sign-in"
OTHER_PAGES = {"sign-in": SIGN_IN, "runs-day": "/dashboard?span=day", "docs": "/docs"}
"""Pages to which no link of the navigation leads, with their paths. There is also `run`, the first one."""

WIDTHS: dict[str, dict[str, Any]] = {
    "1280": {"viewport": {"width": 1280, "height": 900}},
    "390": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True},
}
LOOKS: dict[str, dict[str, Any]] = {"light": {"color_scheme": "light"}, "dark": {"color_scheme": "dark"}}

ALL_SCENES = ("day", "0", "5", "3000")

DOCS = (
    ("dashboard-desktop", "runs-day", "1280", "light", 1280),
    ("dashboard-desktop-dark", "runs-day", "1280", "dark", 1280),
    ("dashboard-phone", "runs", "390", "light", 844),
    ("run-desktop", "run", "1280", "light", 1000),
)
"""The pictures that README.md and docs/ show: name, page, width, look, and the height that is shown."""

LOAD_MILLISECONDS = 60_000


class Photographer:
    """A browser that is signed in to the dashboard of one scene."""

    def __init__(self, browser: Browser, url: str, key: str) -> None:
        self._browser = browser
        self._url = url
        page = browser.new_page()
        page.goto(f"{url}{SIGN_IN}")
        page.get_by_label("Admin key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{url}/dashboard")
        self._session: Any = page.context.storage_state()
        self.paths = {**OTHER_PAGES, "run": _path_of_a_run(page)}
        """The path of each page."""
        for link in page.locator("nav.pages a").all():
            self.paths[link.inner_text().lower()] = link.get_attribute("href") or ""
        page.context.close()

    def take(self, page_name: str, width: str, look: str, file: Path, height: int | None = None) -> None:
        """Take a picture of the top of a page with this height, or of the whole page."""
        session = None if page_name == "sign-in" else self._session
        context = self._browser.new_context(**WIDTHS[width], **LOOKS[look], storage_state=session)
        page = context.new_page()
        page.set_default_timeout(LOAD_MILLISECONDS)
        page.clock.set_fixed_time(END)  # timers go on, so that scripts can draw
        page.goto(self._url + self.paths[page_name])
        page.wait_for_load_state("load")
        page.evaluate("document.fonts.ready.then(() => new Promise(done => setTimeout(done, 200)))")
        file.parent.mkdir(parents=True, exist_ok=True)
        clip: Any = None if height is None else {"x": 0, "y": 0, "width": int(width), "height": height}
        page.screenshot(path=file, full_page=True, clip=clip)
        context.close()
        _say(str(file))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _path_of_a_run(page: Page) -> str:
    links = page.locator("table.runs tbody th a")
    return (links.count() and links.first.get_attribute("href")) or "/dashboard/run?run_id=unknown"


@contextmanager
def served(scene: str) -> Iterator[tuple[str, str]]:
    """Play a scene in a process, and return the URL and the key of its dashboard."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.browser.day.serve", scene], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    _say(f"playing the scene {scene}; a whole day takes one to five minutes")
    try:
        words = process.stdout.readline().split()
        if len(words) != 4:
            raise RuntimeError(f"the scene {scene} could not be played")
        yield words[3], words[1]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def take_all(folder: Path, scene: str, pages: Sequence[str], forms: Iterable[tuple[str, str]]) -> None:
    """Take each page of a scene in each form: width and look. No pages: all."""
    with sync_playwright() as playwright, served(scene) as (url, key):
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS)
        photographer = Photographer(browser, url, key)
        for page, (width, look) in product(pages or photographer.paths, forms):
            file = folder / scene / f"{page}-{width}-{look}.png"
            photographer.take(page, width, look, file)


def take_for_docs(folder: Path) -> None:
    """Take the pictures of the docs."""
    with sync_playwright() as playwright, served("day") as (url, key):
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=ARGUMENTS)
        photographer = Photographer(browser, url, key)
        for name, page, width, look, height in DOCS:
            photographer.take(page, width, look, folder / f"{name}.png", height)


def main() -> None:
    """Take the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(description="Takes pictures of the dashboard.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="all pages, not only those in the docs")
    for option, known, default in (
        ("scenes", SCENES, ALL_SCENES),
        ("widths", WIDTHS, tuple(WIDTHS)),
        ("looks", LOOKS, tuple(LOOKS)),
    ):
        parser.add_argument(f"--{option}", nargs="+", choices=list(known), default=default)
    parser.add_argument("--pages", nargs="+", help="such as runs or sign-in; all by default", default=[])
    given = parser.parse_args()
    if given.all:
        for scene in given.scenes:
            take_all(given.folder, scene, given.pages, product(given.widths, given.looks))
    else:
        take_for_docs(given.folder)


if __name__ == "__main__":
    main()
