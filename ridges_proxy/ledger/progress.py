"""Reports of how far a long operation on a ledger is."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """A function that is told how far an operation is."""

    def __call__(self, what: str, done: int, total: int | None, /) -> object:
        """`done` of `total` are done, such as runs. None: their number is not known."""
        ...


def unreported(what: str, done: int, total: int | None, /) -> None:
    """Ignore the report."""
