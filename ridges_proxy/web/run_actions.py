"""Operators' actions on runs, for `/admin` and for the dashboard. The audit trail has each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.auth.token_claims import MAX_LIFETIME_SECONDS
from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.calls import close_run
from ridges_proxy.errors import (
    InvalidRequestError,
    RunClosedError,
    RunNotFoundError,
    TokensNotIssuedError,
)
from ridges_proxy.ledger import Action, Run, log_receipt
from ridges_proxy.web.audit_trail import record
from ridges_proxy.web.run_json import limits_json
from ridges_proxy.web.schemas.problems import problem
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from ridges_proxy.auth.token_claims import RunToken
    from ridges_proxy.ledger import RunUsage


def require_known(usage: RunUsage | None) -> RunUsage:
    """The usage of a run that the ledger knows. Raises RunNotFoundError."""
    if usage is None:
        raise RunNotFoundError
    return usage


def reset(run_id: str) -> RunUsage:
    """Set what a run has spent to zero. Returns its usage before that. Raises RunNotFoundError."""
    usage = require_known(services().ledger.usage(run_id))
    record(Action.RUN_RESET, run_id, spent_usd=usd_from_nanousd(usage.spent_nanousd), calls=usage.calls)
    return require_known(services().ledger.reset(run_id))


def close(run_id: str) -> RunUsage:
    """Close a run: end its calls in flight and refuse new ones. Returns its final usage.

    The run stays closed for the longest lifetime of a run token. A run that has made no call can be
    closed too.
    """
    record(Action.RUN_CLOSED, run_id)
    run = Run(run_id, services().settings.max_cost_nanousd, MAX_LIFETIME_SECONDS)
    usage = close_run.close_run(services().ledger, services().admission, run)
    log_receipt(usage)
    return usage


def issue(fields: dict[str, Any]) -> tuple[str, RunToken]:
    """Issue a run token from IssueSchema's fields. Returns the token as text and as its contents.

    Raises TokensNotIssuedError, RunClosedError, or InvalidRequestError if the token would be too long.
    """
    if not services().run_tokens.can_issue:
        raise TokensNotIssuedError
    usage = services().ledger.usage(fields["run_id"])
    if usage is not None and usage.closed:
        raise RunClosedError
    try:
        text, token = services().run_tokens.issue(**fields)
    except ValueError:  # each field is valid, but together they exceed a token's maximum length
        raise InvalidRequestError([problem(["body", "models"], "value_error")]) from None
    record(Action.TOKEN_ISSUED, token.run_id, valid_until=token.expires_at, **limits_json(token))
    return text, token


def unpriced_models(token: RunToken) -> list[str]:
    """The models that a token allows but that have no price now: calls to them are refused."""
    priced = {*services().prices.prices, services().settings.embedding_model}
    return sorted((token.models or frozenset()) - priced)
