"""The progress of a long command, on standard error: a bar in a terminal, lines elsewhere.

Standard output stays the result. Short work shows nothing outside a terminal.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress, TaskID

LINE_SECONDS = 5.0
"""Least time between two lines, and before the first one."""

LINE_SHARE = 0.1
"""Least time between two lines as a share of the time so far: half an hour gets about 50 lines."""

REFRESHES_PER_SECOND = 4


class ProgressDisplay(Protocol):
    """Shows how far an operation is. Both kinds may be used as a `Report` of the ledger."""

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """Show that `done` of `total` are done, such as runs. None: their number is not known."""
        ...

    def say(self, text: str) -> None:
        """Print a line that stays."""
        ...


class ProgressLines:
    """Lines, fewer and fewer as time passes."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started_at = clock()
        self._next_at = self._started_at + LINE_SECONDS

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """Print a line, unless the last one is too young."""
        now = self._clock()
        if now >= self._next_at:
            self._next_at = now + max(LINE_SECONDS, LINE_SHARE * (now - self._started_at))
            self.say(f"{what}: {progress_text(done, total)}")

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, soft_wrap=True)


class ProgressBars:
    """A bar for each kind of things, in a terminal. They vanish at the end."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """Move the bar."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, text="")
        self._bars.update(self._tasks[what], completed=done, total=total, text=progress_text(done, total))

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(text, soft_wrap=True)


@contextmanager
def progress() -> Iterator[ProgressDisplay]:
    """Return a display for the time of an operation."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if not console.is_interactive:
        yield ProgressLines(console)
        return
    with _bars(console) as bars:
        yield ProgressBars(bars)


def progress_text(done: int, total: int | None) -> str:
    """Say how many are done, and which share of all that is: 100 % only at the end."""
    if total is None:
        return f"{done:,}"
    return f"{done:,} of {total:,} ({100 if done >= total else 100 * done // total} %)"


def _bars(console: Console) -> Progress:
    # Imported here: no other command needs these modules, and they take as long as a short command.
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=True,
        redirect_stdout=False,
    )
