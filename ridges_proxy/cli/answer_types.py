"""The server's answers, as the command line reads them; what has another form is not from the proxy."""

from __future__ import annotations

from typing import TypedDict, TypeGuard, get_type_hints

MOST = 10**15
"""No amount or count of a run's books is larger; what is, and NaN, is not from the proxy."""


class Books(TypedDict):
    """One run, as the server answers it."""

    run_id: str
    max_cost_usd: float
    used_cost_usd: float
    held_cost_usd: float
    remaining_cost_usd: float
    inference_cost_usd: float
    embedding_cost_usd: float
    calls: int
    in_flight: int
    idle_seconds: float


class Page(TypedDict):
    """One page of runs; `total` counts all that match."""

    runs: list[Books]
    total: int
    offset: int
    limit: int


class Receipt(TypedDict):
    """What is left of a forgotten run."""

    run_id: str
    forgotten_at: str
    last_active_at: str
    used_cost_usd: float
    inference_cost_usd: float
    embedding_cost_usd: float
    max_cost_usd: float
    calls: int
    closed: int
    """A bool, which is an int."""


class Receipts(TypedDict):
    """One page of receipts; `next`, None on the last, is the mark of the one after it."""

    receipts: list[Receipt]
    next: str | None


class Issued(TypedDict):
    """A run token; it allows more than these say, where they leave it open."""

    run_id: str
    token: str
    expires_at: str


class Swept(TypedDict):
    """What a sweep did."""

    forgotten_runs: int
    overdue_holds: int
    seconds: float


def _fits(document: object, shape: type) -> bool:
    """Whether a document has what the shape's annotations say; it may have more."""
    return isinstance(document, dict) and all(
        _is_kind(document.get(name), kind) for name, kind in get_type_hints(shape).items()
    )


def _is_kind(value: object, kind: object) -> bool:
    if kind is str:
        return isinstance(value, str)
    if kind == str | None:
        return value is None or isinstance(value, str)
    if kind is int:
        return isinstance(value, int) and 0 <= value <= MOST
    if kind is float:
        return isinstance(value, int | float) and 0 <= value <= MOST
    return isinstance(value, list)


def is_books(document: object) -> TypeGuard[Books]:
    """Whether the server answered so."""
    return _fits(document, Books)


def is_page(document: object) -> TypeGuard[Page]:
    """Whether the server answered so."""
    return _fits(document, Page) and all(is_books(run) for run in document["runs"])  # type: ignore[index] # it fits


def is_issued(document: object) -> TypeGuard[Issued]:
    """Whether the server answered so."""
    return _fits(document, Issued)


def is_receipts(document: object) -> TypeGuard[Receipts]:
    """Whether the server answered so."""
    return _fits(document, Receipts) and all(_fits(each, Receipt) for each in document["receipts"])  # type: ignore[index] # it fits


def is_swept(document: object) -> TypeGuard[Swept]:
    """Whether the server answered so."""
    return _fits(document, Swept)
