"""Whose money a request spends: the run that it names, what its token allows, and the call it becomes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import g, request
from marshmallow import ValidationError

from ridges_proxy.calls.service import Call
from ridges_proxy.errors import InvalidRequestError, RunNotAllowedError
from ridges_proxy.ledger import Run, RunUsage
from ridges_proxy.web.schemas.fields import problem, run_id_text
from ridges_proxy.web.services import services
from ridges_proxy.web.transport.client_connection import ClientConnection

if TYPE_CHECKING:
    from ridges_proxy.auth.run_tokens import RunToken

HEADER = "X-Run-Id"


def name_run(fields: object) -> object:
    """The body or query with its `run_id`: its own, or else the header's or the run token's.

    Raises RunNotAllowedError where a token is for another run than the request names anywhere, and
    InvalidRequestError where the header is no run's id, or not the one that the body names.
    """
    if not isinstance(fields, dict):
        return fields
    token: RunToken | None = g.run_token
    named = [run_id for run_id in (fields.get("run_id"), _run_of_header()) if run_id is not None]
    if token is not None and any(run_id != token.run_id for run_id in named):
        raise RunNotAllowedError
    if any(run_id != named[0] for run_id in named):
        raise InvalidRequestError([problem(["header", HEADER], "value_error")])
    if token is not None:
        named = [token.run_id]
    return {**fields, "run_id": named[0]} if named else fields


def run_of(run_id: str) -> Run:
    """The run, with the cap and the memory that its token gives it, or else the settings."""
    settings, token = services().settings, g.run_token
    run = Run(run_id, settings.max_cost_nanousd, most_in_flight=settings.max_concurrent_calls_per_run)
    if token is None:
        return run
    budget_nanousd = run.budget_nanousd if token.budget_nanousd is None else token.budget_nanousd
    return replace(
        run, budget_nanousd=budget_nanousd, remember_seconds=max(0.0, token.expires_at - time.time())
    )


def books_of(run_id: str) -> RunUsage:
    """The run's books, with the cap that a token of the caller gives it; zeros for a run not seen."""
    run = run_of(run_id)
    books = services().ledger.usage(run_id) or RunUsage(run_id, run.budget_nanousd)
    return books if g.run_token is None else replace(books, budget_nanousd=run.budget_nanousd)


def begin_call(run_id: str, model: str | None) -> Call:
    """The call of this request."""
    token = g.run_token
    limits: dict[str, Any] = (
        {} if token is None else {"models": token.models, "calls_per_minute": token.calls_per_minute}
    )
    call = g.call = Call(run_of(run_id), ClientConnection(request.environ), model, **limits)
    return call


def _run_of_header() -> str | None:
    """The run that the header names. A header is bytes, a run's id is text: only ASCII is both."""
    given = request.headers.get(HEADER)
    if given is None:
        return None
    try:
        run_id: str = run_id_text(given)
    except ValidationError:
        run_id = ""
    if not run_id or not run_id.isascii():
        raise InvalidRequestError([problem(["header", HEADER], "value_error")])
    return run_id
