"""Types of the server's answers, and checks that an answer has such a type."""

from __future__ import annotations

from typing import TypedDict, TypeGuard, get_type_hints

MAX_NUMBER = 10**15
"""Upper bound of the proxy's amounts and counts. A larger number or NaN comes from another server."""


class Finished(TypedDict, total=False):
    """A field that servers up to version 0.2.0 do not have. One may still run during an upgrade."""

    finished: int
    """A JSON boolean. In Python a bool is an int."""


class RunUsage(Finished):
    """Usage of one run."""

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
    closed: int
    """A JSON boolean, as `finished`."""


class Page(TypedDict):
    """One page of runs. `total` is the number of all runs that match."""

    runs: list[RunUsage]
    total: int
    offset: int
    limit: int


class Receipt(Finished):
    """Receipt of a forgotten run."""

    run_id: str
    forgotten_at: str
    last_active_at: str
    used_cost_usd: float
    inference_cost_usd: float
    embedding_cost_usd: float
    max_cost_usd: float
    calls: int
    closed: int
    """A JSON boolean, as `finished`."""


class Receipts(TypedDict):
    """One page of receipts. `next` is the cursor of the following page, None on the last page."""

    receipts: list[Receipt]
    next: str | None


class IssuedToken(TypedDict):
    """A run token. The answer has further fields with its limits."""

    run_id: str
    token: str
    expires_at: str


class SweepResult(TypedDict):
    """Result of a sweep."""

    forgotten_runs: int
    overdue_holds: int
    seconds: float


class OperatorSession(TypedDict):
    """One session of the dashboard."""

    id: str
    address: str
    signed_in_at: str
    expires_at: str


class SessionList(TypedDict):
    """All sessions, oldest first."""

    sessions: list[OperatorSession]


class SessionsEnded(TypedDict):
    """How many sessions have ended."""

    ended: int


class ServingWorker(TypedDict):
    """A worker that accepts connections."""

    pid: int
    began_at: str
    current: bool


class RunningSettings(TypedDict):
    """The settings that run, as digests."""

    version: str
    reloads: int
    problems: list[str]
    workers: list[ServingWorker]
    settings: dict[str, str]


def _matches(document: object, answer_type: type) -> bool:
    """Return whether a document has all required fields of a type. It may have more fields."""
    optional: frozenset[str] = answer_type.__optional_keys__  # type: ignore[attr-defined] # it is a TypedDict
    return isinstance(document, dict) and all(
        _has_type(document.get(name), kind)
        for name, kind in get_type_hints(answer_type).items()
        if name in document or name not in optional
    )


def _has_type(value: object, kind: object) -> bool:
    if kind is str or kind is bool:
        return isinstance(value, kind)
    if kind == str | None:
        return value is None or isinstance(value, str)
    if kind is int:
        return isinstance(value, int) and 0 <= value <= MAX_NUMBER
    if kind is float:
        return isinstance(value, int | float) and 0 <= value <= MAX_NUMBER
    if kind == dict[str, str]:
        return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
    return isinstance(value, list)


def is_run_usage(document: object) -> TypeGuard[RunUsage]:
    """Return whether a document is the usage of a run."""
    return _matches(document, RunUsage)


def is_page(document: object) -> TypeGuard[Page]:
    """Return whether a document is a page of runs."""
    return _matches(document, Page) and all(is_run_usage(run) for run in document["runs"])  # type: ignore[index] # checked before


def is_issued_token(document: object) -> TypeGuard[IssuedToken]:
    """Return whether a document is a run token."""
    return _matches(document, IssuedToken)


def is_receipts(document: object) -> TypeGuard[Receipts]:
    """Return whether a document is a page of receipts."""
    return _matches(document, Receipts) and all(_matches(each, Receipt) for each in document["receipts"])  # type: ignore[index] # checked before


def is_sweep_result(document: object) -> TypeGuard[SweepResult]:
    """Return whether a document is the result of a sweep."""
    return _matches(document, SweepResult)


def is_session_list(document: object) -> TypeGuard[SessionList]:
    """Return whether a document is a list of sessions."""
    return _matches(document, SessionList) and all(
        _matches(each, OperatorSession)
        for each in document["sessions"]  # type: ignore[index] # checked before
    )


def is_sessions_ended(document: object) -> TypeGuard[SessionsEnded]:
    """Return whether a document is the number of sessions that have ended."""
    return _matches(document, SessionsEnded)


def is_running_settings(document: object) -> TypeGuard[RunningSettings]:
    """Return whether a document is the answer about the settings that run."""
    return _matches(document, RunningSettings) and all(
        _matches(each, ServingWorker)
        for each in document["workers"]  # type: ignore[index] # checked before
    )
