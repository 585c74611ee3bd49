"""Types of the server's answers, and checks that an answer has such a type."""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import TypedDict, TypeGuard, get_args, get_origin, get_type_hints, is_typeddict

MAX_NUMBER = 10**15
"""Upper bound of the proxy's amounts and counts. A larger number or NaN comes from another server."""


class Finished(TypedDict, total=False):
    """A field that servers up to version 0.2.0 do not have. One may still run during an upgrade."""

    finished: int
    """A JSON boolean. In Python a bool is an int."""


class ModelCost(TypedDict):
    """Calls of a run to one model, of one kind."""

    model: str
    kind: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


class Outcome(Finished, total=False):
    """Fields that servers up to version 0.2.0 do not have."""

    groups: list[str]
    ended_by: str | None
    first_call_at: str | None
    last_call_at: str | None
    refused: dict[str, int]
    prompt_tokens: int | None
    completion_tokens: int | None
    costs: list[ModelCost]


class Drawn(TypedDict):
    """A budget that a run draws on and shares with others."""

    budget: str
    scope: str
    period: str
    max_cost_usd: float
    remaining_cost_usd: float


class Shared(TypedDict, total=False):
    """A field that servers up to version 0.2.0 do not have."""

    budgets: list[Drawn]


class RunUsage(Outcome, Shared):
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


class OpenCall(TypedDict):
    """A call in flight. Its times are None for a hold of version 0.2.0 or before."""

    run_id: str
    model: str
    kind: str
    held_cost_usd: float
    started_at: str | None
    age_seconds: float | None
    expires_at: str
    expired: bool


class OpenCalls(TypedDict):
    """The oldest calls in flight. `total` is the number of all."""

    calls: list[OpenCall]
    total: int


class Receipt(Outcome):
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


class Unpriced(TypedDict, total=False):
    """A field that servers up to version 0.2.0 do not have."""

    unpriced_models: list[str]


class IssuedToken(Unpriced):
    """A run token. The answer has further fields with its limits."""

    run_id: str
    token: str
    expires_at: str


class SweepResult(TypedDict):
    """Result of a sweep."""

    forgotten_runs: int
    overdue_holds: int
    seconds: float


class SetAmount(TypedDict):
    """An amount that an operator has set; scope None: for the whole budget."""

    scope: str | None
    usd: float


class Budget(TypedDict):
    """A budget that runs share. Fields are None if BUDGETS does not have it any more."""

    name: str
    usd: float | None
    usd_in_force: float | None
    set_amounts: list[SetAmount]
    window: str | None
    zone: str | None
    match: str | None
    period: str | None
    resets_at: str | None


class LevelUsage(TypedDict):
    """Usage of a budget, for one scope in one period."""

    budget: str
    scope: str
    period: str
    resets_at: str | None
    max_cost_usd: float
    used_cost_usd: float
    held_cost_usd: float
    remaining_cost_usd: float
    calls: int
    in_flight: int


class LevelPage(TypedDict):
    """One page of levels. `total` is the number of all levels that match."""

    levels: list[LevelUsage]
    total: int
    offset: int
    limit: int


class BudgetPage(LevelPage):
    """All budgets, and one page of their levels."""

    budgets: list[Budget]


class BudgetWithLevels(Budget, LevelPage):
    """One budget, and one page of its levels."""


class BudgetReset(TypedDict):
    """The levels of a budget before they were reset."""

    budget: str
    levels: list[LevelUsage]


class OperatorSession(TypedDict):
    """One session of the dashboard."""

    id: str
    address: str
    signed_in_at: str
    expires_at: str


class SessionList(TypedDict):
    """All sessions, oldest first."""

    sessions: list[OperatorSession]


class AuditEntry(TypedDict):
    """One action of an operator."""

    id: str
    at: str
    actor: str
    address: str
    action: str
    subject: str
    detail: dict[str, object]
    valid_until: str | None
    request_id: str


class AuditPage(TypedDict):
    """One page of the audit trail. `next` is the cursor of the following page, None on the last page."""

    entries: list[AuditEntry]
    next: str | None


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


@cache
def _fields(answer_type: type) -> tuple[tuple[str, object, bool], ...]:
    """Return the name and type of each field, and whether it is required."""
    optional: frozenset[str] = answer_type.__optional_keys__  # type: ignore[attr-defined] # it is a TypedDict
    return tuple((name, kind, name not in optional) for name, kind in get_type_hints(answer_type).items())


def _matches(document: object, answer_type: type) -> bool:
    """Return whether a document has all required fields of a type, in all its parts. It may have more."""
    return isinstance(document, dict) and all(
        _has_type(document.get(name), kind)
        for name, kind, is_required in _fields(answer_type)
        if name in document or is_required
    )


def _has_type(value: object, kind: object) -> bool:
    if isinstance(kind, UnionType):
        return any(_has_type(value, each) for each in get_args(kind))
    if kind is int or kind is float:
        numbers = int if kind is int else int | float
        return isinstance(value, numbers) and 0 <= value <= MAX_NUMBER
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_has_type(each, get_args(kind)[1]) for each in value.values())
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_has_type(each, get_args(kind)[0]) for each in value)
    if isinstance(kind, type) and is_typeddict(kind):
        return _matches(value, kind)
    return isinstance(value, kind)  # type: ignore[arg-type] # str, bool or the type of None


def is_run_usage(document: object) -> TypeGuard[RunUsage]:
    """Return whether a document is the usage of a run."""
    return _matches(document, RunUsage)


def is_page(document: object) -> TypeGuard[Page]:
    """Return whether a document is a page of runs."""
    return _matches(document, Page)


def is_open_calls(document: object) -> TypeGuard[OpenCalls]:
    """Return whether a document is a list of calls in flight."""
    return _matches(document, OpenCalls)


def is_issued_token(document: object) -> TypeGuard[IssuedToken]:
    """Return whether a document is a run token."""
    return _matches(document, IssuedToken)


def is_receipts(document: object) -> TypeGuard[Receipts]:
    """Return whether a document is a page of receipts."""
    return _matches(document, Receipts)


def is_sweep_result(document: object) -> TypeGuard[SweepResult]:
    """Return whether a document is the result of a sweep."""
    return _matches(document, SweepResult)


def is_budget(document: object) -> TypeGuard[Budget]:
    """Return whether a document is a budget."""
    return _matches(document, Budget)


def is_budget_page(document: object) -> TypeGuard[BudgetPage]:
    """Return whether a document is a page of budgets."""
    return _matches(document, BudgetPage)


def is_budget_with_levels(document: object) -> TypeGuard[BudgetWithLevels]:
    """Return whether a document is a budget with its levels."""
    return _matches(document, BudgetWithLevels)


def is_budget_reset(document: object) -> TypeGuard[BudgetReset]:
    """Return whether a document is the result of a reset."""
    return _matches(document, BudgetReset)


def is_session_list(document: object) -> TypeGuard[SessionList]:
    """Return whether a document is a list of sessions."""
    return _matches(document, SessionList)


def is_audit_page(document: object) -> TypeGuard[AuditPage]:
    """Return whether a document is a page of the audit trail."""
    return _matches(document, AuditPage)


def is_sessions_ended(document: object) -> TypeGuard[SessionsEnded]:
    """Return whether a document is the number of sessions that have ended."""
    return _matches(document, SessionsEnded)


def is_running_settings(document: object) -> TypeGuard[RunningSettings]:
    """Return whether a document is the answer about the settings that run."""
    return _matches(document, RunningSettings)
