from __future__ import annotations

import inspect
import itertools
import re
from collections import defaultdict
from typing import NamedTuple

from ridges_proxy import errors
from ridges_proxy.errors import (
    AddressLimitedError,
    AddressNotAllowedError,
    AnswerTooLargeError,
    BodyCompressedError,
    BodyQueueError,
    BodyTimeoutError,
    BodyTooComplexError,
    BodyTooLargeError,
    BodyTruncatedError,
    BudgetExhaustedError,
    BudgetNotFoundError,
    ClientGoneError,
    ClientStalledError,
    DeadlineExceededError,
    DrainedError,
    DrainingError,
    InternalError,
    InterruptedCallError,
    InvalidApiKeyError,
    InvalidRequestError,
    LedgerUnavailableError,
    ModelNotSupportedError,
    NoFilesError,
    OverloadedError,
    PeriodFullError,
    Problem,
    ProxyError,
    RateLimitedError,
    RateLimitStatus,
    RefusedBytesError,
    RefusedError,
    RefusingBudget,
    RunBusyError,
    RunClosedError,
    RunNotAllowedError,
    RunNotFoundError,
    StaleFormError,
    TokensNotIssuedError,
    TooManyInFlightError,
    UnavailableError,
    UpstreamAuthError,
    UpstreamBrokenError,
    UpstreamBusyError,
    UpstreamDownError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamModelError,
    UpstreamNoInstanceError,
    UpstreamOverranError,
    UpstreamQuotaError,
    UpstreamRefusedError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from tests.support.table import check_rows

EVERY_CLASS = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, ProxyError)
]


class DrawnClass(NamedTuple):
    """A line of the tree in the docstring of errors.py."""

    name: str
    parent: str | None
    status: int | None


def drawn_tree() -> list[DrawnClass]:
    """Parse the tree at the top of errors.py."""
    found: list[DrawnClass] = []
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+Error)(?: +(.*))?", line)
        if match:
            depth = len(match[1]) // 4
            status = re.match(r"\d{3}\b", match[3] or "")
            del path[depth:]
            found.append(DrawnClass(match[2], path[-1] if path else None, int(status[0]) if status else None))
            path.append(match[2])
    return found


def test_the_drawn_tree_shows_every_class_under_its_parent() -> None:
    classes = {
        kind.__name__: None if kind is ProxyError else [base.__name__ for base in kind.__bases__]
        for kind in EVERY_CLASS
    }

    assert {each.name: each.parent and [each.parent] for each in drawn_tree()} == classes


def test_the_drawn_tree_has_the_order_of_the_classes_and_each_class_once() -> None:
    assert [each.name for each in drawn_tree()] == [kind.__name__ for kind in EVERY_CLASS]


def test_every_line_of_the_drawn_tree_is_parsed() -> None:
    lines = [line for line in (errors.__doc__ or "").splitlines() if "── " in line]

    assert len(drawn_tree()) == len(lines) + 1


def test_every_branch_of_the_drawn_tree_is_connected() -> None:
    lines = [line for line in (errors.__doc__ or "").splitlines() if "Error" in line]
    for above, below in itertools.pairwise(lines):
        for column, letter in enumerate(below[: below.index("Error")]):
            if letter in "├└│" and above[column : column + 1] not in {"├", "│"}:
                assert re.match(r"[A-Z]", above[column:]), f"{letter} is not connected: {below}"


def test_a_drawn_status_is_the_status_of_the_class() -> None:
    def check(drawn: DrawnClass) -> None:
        assert getattr(errors, drawn.name).status == drawn.status

    check_rows([each for each in drawn_tree() if each.status], check)


def test_a_class_drawn_without_a_status_inherits_it_or_its_children_have_their_own() -> None:
    def check(drawn: DrawnClass) -> None:
        kind: type[ProxyError] = getattr(errors, drawn.name)
        children = [each for each in drawn_tree() if each.parent == drawn.name and each.status]
        assert children or kind.status == kind.__mro__[1].status  # type: ignore[attr-defined] # a ProxyError's parent

    check_rows([each for each in drawn_tree() if each.status is None], check)


CONTRACT: dict[type[ProxyError], tuple[int, str, int | None]] = {
    InvalidRequestError: (422, "invalid_request", None),
    BodyTruncatedError: (400, "body_truncated", None),
    BodyTimeoutError: (408, "body_timeout", None),
    BodyTooLargeError: (413, "body_too_large", None),
    BodyTooComplexError: (413, "body_too_complex", None),
    BodyCompressedError: (415, "body_compressed", None),
    InvalidApiKeyError: (401, "invalid_api_key", None),
    AddressNotAllowedError: (403, "ip_not_allowed", None),
    RunNotAllowedError: (403, "run_not_allowed", None),
    RunClosedError: (403, "run_closed", None),
    RunNotFoundError: (404, "run_not_found", None),
    BudgetNotFoundError: (404, "budget_not_found", None),
    TokensNotIssuedError: (409, "tokens_not_minted", None),
    ModelNotSupportedError: (404, "model_not_found", None),
    BudgetExhaustedError: (402, "budget_exhausted", None),
    RunBusyError: (429, "run_busy", 2),
    PeriodFullError: (429, "run_busy", 2),
    TooManyInFlightError: (429, "too_many_in_flight", 1),
    RefusedBytesError: (429, "too_many_refused_bytes", 60),
    StaleFormError: (400, "stale_form", None),
    RateLimitedError: (429, "rate_limited", 60),
    AddressLimitedError: (429, "rate_limited", 60),
    OverloadedError: (503, "overloaded", 2),
    DrainingError: (503, "shutting_down", 5),
    BodyQueueError: (503, "bodies_waiting", 2),
    LedgerUnavailableError: (503, "ledger_unavailable", 5),
    UpstreamDownError: (503, "upstream_down", 10),
    ClientGoneError: (499, "client_gone", None),
    ClientStalledError: (499, "client_stalled", None),
    DrainedError: (503, "shutting_down", 5),
    UpstreamUnreachableError: (502, "upstream_unreachable", None),
    NoFilesError: (502, "upstream_unreachable", None),
    UpstreamTimeoutError: (504, "upstream_timeout", None),
    DeadlineExceededError: (504, "upstream_timeout", None),
    UpstreamBrokenError: (502, "upstream_broken", None),
    UpstreamOverranError: (502, "upstream_overran", None),
    AnswerTooLargeError: (502, "upstream_broken", None),
    UpstreamAuthError: (502, "upstream_auth", None),
    UpstreamQuotaError: (502, "upstream_quota", None),
    UpstreamRejectedError: (400, "upstream_rejected", None),
    UpstreamModelError: (502, "upstream_model", None),
    UpstreamBusyError: (429, "upstream_busy", 5),
    UpstreamNoInstanceError: (503, "upstream_no_instance", 10),
    UpstreamFailedError: (502, "upstream_failed", None),
    InternalError: (500, "internal_error", None),
}
"""Status, code and Retry-After (in seconds) of every error that is raised: clients rely on them."""

BRANCHES = {
    ProxyError,
    RefusedError,
    UnavailableError,
    InterruptedCallError,
    UpstreamError,
    UpstreamRefusedError,
}
"""Base classes, which are not raised."""


def test_every_class_is_a_base_class_or_in_the_contract() -> None:
    assert set(EVERY_CLASS) == CONTRACT.keys() | BRANCHES
    assert not CONTRACT.keys() & BRANCHES


def test_an_error_has_the_status_code_and_retry_after_of_the_contract() -> None:
    def check(row: tuple[type[ProxyError], tuple[int, str, int | None]]) -> None:
        kind, expected = row
        assert (kind.status, kind.code, kind.retry_after_seconds) == expected

    check_rows(CONTRACT.items(), check)


def test_every_error_has_a_valid_status_code_message_and_docstring() -> None:
    def check(kind: type[ProxyError]) -> None:
        assert 400 <= kind.status <= 599
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
        assert kind.message == kind.message.strip() != ""
        assert "\n" not in kind.message
        assert kind.__doc__

    check_rows(EVERY_CLASS, check)


def test_every_raised_error_has_its_own_code_and_message() -> None:
    def check(kind: type[ProxyError]) -> None:
        assert kind.code != ProxyError.code
        assert kind.message != ProxyError.message
        own = set(vars(kind)) | set(vars(kind.__mro__[1]))
        assert {"status", "code", "message"} & own, "defined by the class or by its parent"

    check_rows([kind for kind in CONTRACT if kind is not InternalError], check)


def test_only_the_intended_classes_share_a_code() -> None:
    by_code = defaultdict(set)
    for kind in EVERY_CLASS:
        by_code[kind.code].add(kind)

    assert {code: kinds for code, kinds in by_code.items() if len(kinds) > 1} == {
        "internal_error": {ProxyError, InternalError},
        "invalid_request": {RefusedError, InvalidRequestError},
        "overloaded": {UnavailableError, OverloadedError},
        "shutting_down": {DrainingError, DrainedError},
        "run_busy": {RunBusyError, PeriodFullError},
        "rate_limited": {RateLimitedError, AddressLimitedError},
        "upstream_unreachable": {UpstreamUnreachableError, NoFilesError},
        "upstream_timeout": {UpstreamTimeoutError, DeadlineExceededError},
        "upstream_broken": {UpstreamBrokenError, AnswerTooLargeError},
    }


def test_exactly_the_temporary_errors_have_a_retry_after() -> None:
    waiting = {kind for kind in EVERY_CLASS if kind.retry_after_seconds is not None}

    assert {kind.status for kind in waiting} == {429, 503}
    assert not [kind for kind in CONTRACT if kind.status in {429, 503} and kind not in waiting]


def error_of(kind: type[ProxyError], text: str) -> ProxyError:
    """Create an error of the class, with the text in each argument that accepts one."""
    if issubclass(kind, InvalidRequestError):
        return kind([Problem(["body"], text, "type")])
    if issubclass(kind, ModelNotSupportedError):
        return kind(text, [text])
    if issubclass(kind, UpstreamRefusedError):
        return kind(418)
    if issubclass(kind, PeriodFullError):
        return kind(RefusingBudget(text, text, text, 3_600.0), 7)
    if issubclass(kind, RateLimitedError):
        return kind(RateLimitStatus(10, 60, 0, 7))
    return kind(text)


def test_an_error_shows_its_message_and_none_of_its_arguments() -> None:
    def check(kind: type[ProxyError]) -> None:
        assert str(error_of(kind, "a prompt")) == kind.message

    check_rows(EVERY_CLASS, check)


def test_the_messages_that_agents_compare_are_unchanged() -> None:
    assert InvalidApiKeyError.message == "Invalid API key"
    assert AddressNotAllowedError.message == "IP not allowed"


def test_an_error_keeps_its_arguments_as_attributes() -> None:
    problem = Problem(["body", "run_id"], "Field required", "missing")

    assert InvalidRequestError([problem]).problems == [problem]
    assert ModelNotSupportedError("m", ["a"]).model == "m"
    assert ModelNotSupportedError("m", ["a"]).supported == ["a"]
    assert UpstreamBusyError(429).upstream_status == 429
    hour = RefusingBudget("all", "all", "hour", 3_600.0)
    assert PeriodFullError(hour, 7).retry_after_seconds == 7
    assert PeriodFullError(hour, 7).budget == BudgetExhaustedError(hour).budget == hour
    assert RateLimitedError(RateLimitStatus(10, 60, 0, 7)).retry_after_seconds == 7


FINAL_WORDS = ("budget", "cost", "limit", "quota", "exhausted", "exceeded")
"""Agents that find one of them in a 429 take it for final, and stop."""


def test_a_busy_run_is_refused_in_words_that_no_agent_takes_for_final() -> None:
    def check(word: str) -> None:
        for error in (RunBusyError, PeriodFullError):
            assert word not in f"{error.code} {error.message}".lower()

    check_rows(FINAL_WORDS, check)
