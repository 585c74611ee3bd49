"""`flask spend watch`: the runs, live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live

from ridges_proxy.cli.errors import ServerUnreachableError
from ridges_proxy.cli.live_table import live_page
from ridges_proxy.cli.tables import console_of_people, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ridges_proxy.cli.answer_types import Page
    from ridges_proxy.cli.client import AdminClient


def looks(
    client: AdminClient,
    query: Mapping[str, object],
    every_seconds: float,
    times: int | None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Page | ServerUnreachableError]:
    """Pages of runs, one every so many seconds, for ever or so many times.

    Raises the SpendError of the first look; later, a server that does not answer is waited for.
    """
    yield client.runs(query)
    taken = 1
    while taken != times:
        sleep(every_seconds)
        taken += 1
        try:
            yield client.runs(query)
        except ServerUnreachableError as error:
            yield error


def show_live(found: Iterator[Page | ServerUnreachableError]) -> None:
    """Show each page in the place of the last; where nobody looks at a terminal, one after the other."""
    console = console_of_people()
    with Live(console=console, auto_refresh=False) as live:
        last = Group()
        for page in found:
            if isinstance(page, ServerUnreachableError):
                shown = Group(last, plain(f"{time.strftime('%H:%M:%S')} {page.message}"))
            else:
                shown = last = live_page(page)
            if console.is_terminal:
                live.update(shown, refresh=True)
            else:
                console.print(shown)
