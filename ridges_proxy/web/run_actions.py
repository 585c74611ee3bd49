"""What operators do to runs, by `/admin` and by the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.auth.run_tokens import MAX_LIFETIME_SECONDS
from ridges_proxy.calls import close_run
from ridges_proxy.errors import (
    InvalidRequestError,
    RunClosedError,
    RunNotFoundError,
    TokensNotMintedError,
)
from ridges_proxy.ledger import Run, log_receipt
from ridges_proxy.web.schemas.fields import problem
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from ridges_proxy.auth.run_tokens import RunToken
    from ridges_proxy.ledger import RunUsage


def known(books: RunUsage | None) -> RunUsage:
    """The books of a run that the ledger knows. Raises RunNotFoundError."""
    if books is None:
        raise RunNotFoundError
    return books


def reset(run_id: str) -> RunUsage:
    """Set a run's spend to zero; its books as they were before. Raises RunNotFoundError."""
    return known(services().ledger.reset(run_id))


def close(run_id: str) -> RunUsage:
    """Close a run: nothing more is held for it, its calls in flight end. Its final receipt.

    It stays closed for as long as a token of it can live; a run that was never seen is closed as well.
    """
    run = Run(run_id, services().settings.max_cost_nanousd, MAX_LIFETIME_SECONDS)
    receipt = close_run.close_run(services().ledger, services().admission, run)
    log_receipt(receipt)
    return receipt


def issue(fields: dict[str, Any]) -> tuple[str, RunToken]:
    """Mint a run token of IssueSchema's fields.

    Raises TokensNotMintedError, RunClosedError, and InvalidRequestError for fields too long together.
    """
    if not services().run_tokens.can_mint:
        raise TokensNotMintedError
    books = services().ledger.usage(fields["run_id"])
    if books is not None and books.closed:
        raise RunClosedError
    try:
        return services().run_tokens.mint(**fields)
    except ValueError:  # fields that are fine alone and too much together
        raise InvalidRequestError([problem(["body", "models"], "value_error")]) from None
