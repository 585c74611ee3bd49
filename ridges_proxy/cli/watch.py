"""`ridges-proxy spend watch`: a table of runs that is updated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live

from ridges_proxy.cli.errors import ServerUnreachableError
from ridges_proxy.cli.live_table import live_page
from ridges_proxy.cli.terminal import plain, terminal_console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ridges_proxy.cli.answer_types import Page
    from ridges_proxy.cli.client import AdminClient


def poll(
    client: AdminClient,
    query: Mapping[str, object],
    every_seconds: float,
    times: int | None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Page | ServerUnreachableError]:
    """Yield a page of runs at every interval, `times` times or without an end.

    The first request raises its SpendError. If the server does not answer later, the error is yielded.
    """
    yield client.runs(query)
    polls = 1
    while polls != times:
        sleep(every_seconds)
        polls += 1
        try:
            yield client.runs(query)
        except ServerUnreachableError as error:
            yield error


def show_live(pages: Iterator[Page | ServerUnreachableError]) -> None:
    """Show each page in place of the previous one. If the output is not a terminal, print all pages."""
    console = terminal_console()
    with Live(console=console, auto_refresh=False) as live:
        last = Group()
        for page in pages:
            if isinstance(page, ServerUnreachableError):
                table = Group(last, plain(f"{time.strftime('%H:%M:%S')} {page.message}"))
            else:
                table = last = live_page(page)
            if console.is_terminal:
                live.update(table, refresh=True)
            else:
                console.print(table)
