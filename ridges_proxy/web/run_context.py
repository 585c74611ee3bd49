"""The run of a request, with the limits of its run token, and the request's call."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from marshmallow import ValidationError

from ridges_proxy.calls.call import Call
from ridges_proxy.calls.run_levels import with_levels
from ridges_proxy.errors import InvalidRequestError, Problem, RunNotAllowedError
from ridges_proxy.ledger import Run, RunPage, RunQuery, RunUsage
from ridges_proxy.web.call_headers import CallHeaders
from ridges_proxy.web.callers import turn_of
from ridges_proxy.web.request_state import request_state
from ridges_proxy.web.schemas.problems import MAX_NAME_CHARACTERS
from ridges_proxy.web.schemas.values import RunId
from ridges_proxy.web.services import services
from ridges_proxy.web.transport.client_connection import ClientConnection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flask import Request

    from ridges_proxy.billing.exact_counts import TokenCounter
    from ridges_proxy.web.request_state import RequestState

HEADER = "X-Run-Id"
HEADER_KEY = "HTTP_X_RUN_ID"
"""The header, and its key in the environ."""

NO_RUN_ID = f"Input should be a run id: 1 to {MAX_NAME_CHARACTERS} characters of ASCII, no control characters"
OTHER_RUN = "Input should be the run that the request itself names: send one of the two, or the same in both"

NEEDS_TIME = "ridges_proxy.needs_time"
"""Key in the environ of a request whose computations need turns."""

_RUN_ID = RunId()


def with_run_id(fields: object, name: str = "run_id") -> object:
    """The body or query with a run id as `name`: its own, else that of the header or of the run token.

    Raises RunNotAllowedError if the run token is for another run than the body or the header names, and
    InvalidRequestError if the header is not a valid run id or differs from the body's.
    """
    if not isinstance(fields, dict):
        return fields
    state = request_state()
    token = state.run_token
    own, in_header = fields.get(name), _header_run_id(state.request)
    named: Any
    if token is not None:
        if own not in (None, token.run_id) or in_header not in (None, token.run_id):
            raise RunNotAllowedError
        named = token.run_id
    elif own is None or in_header is None or own == in_header:
        named = in_header if own is None else own
    else:
        raise InvalidRequestError([_header_problem(OTHER_RUN)])
    state.named_run = named
    return fields if named is None else {**fields, name: named}


def run_of(state: RequestState, run_id: str, *, is_final: bool = False) -> Run:
    """The run, with the limits of its run token, or else the settings' budget.

    Only a final call may use the part of the budget that the token keeps for it.
    """
    settings, token = state.services.settings, state.run_token
    run = Run(run_id, settings.max_cost_nanousd, max_in_flight=settings.max_concurrent_calls_per_run)
    if token is None:
        return run
    own_budget = token.budget_nanousd is not None
    budget_nanousd = run.budget_nanousd if token.budget_nanousd is None else token.budget_nanousd
    return replace(
        run,
        budget_nanousd=budget_nanousd,
        own_budget=own_budget,
        remember_seconds=max(0.0, token.expires_at - time.time()),
        has_token=True,
        groups=token.groups,
        reserved_nanousd=0 if is_final else min(token.reserve_final_nanousd, budget_nanousd),
    )


def usage_of(run_id: str) -> RunUsage:
    """The run's usage, with the budget of the caller's run token; zeros for a run without calls."""
    state = request_state()
    run = run_of(state, run_id)
    usage = state.services.ledger.usage(run_id) or RunUsage(run_id, run.budget_nanousd)
    if state.run_token is None:
        return with_present_budget(usage)
    return replace(usage, budget_nanousd=run.budget_nanousd, groups=run.groups)


def usage_with_levels(run_id: str) -> RunUsage:
    """The same with the run's present levels: those of its token's groups, or of the run's last token."""
    (usage,) = with_present_levels([usage_of(run_id)])
    return usage


def with_present_levels(usages: Sequence[RunUsage]) -> Sequence[RunUsage]:
    """The usages with the present levels of the runs."""
    calls = services().calls
    return with_levels(usages, calls.budgets, calls.ledger, calls.clock())


def with_present_budget(usage: RunUsage) -> RunUsage:
    """The usage with the budget that limits the run's next call.

    It is that of the run's last token, or else that of the settings. The ledger has the budget of the last
    reservation, and the settings may have been reloaded since then.
    """
    return usage if usage.own_budget else replace(usage, budget_nanousd=services().settings.max_cost_nanousd)


def list_runs(query: RunQuery) -> RunPage:
    """One page of runs, with the budget that limits the next call of each, also for their states."""
    query = replace(query, present_budget_nanousd=services().settings.max_cost_nanousd)
    page = services().ledger.list(query)
    return replace(page, runs=[with_present_budget(usage) for usage in page.runs])


def begin_call(run_id: str, model: str | None) -> Call:
    """Create the call of this request, and remember it for the response's headers and the log.

    Raises RefusedBytesError for a run of which too many bytes were refused, and InvalidRequestError for an
    invalid header.
    """
    state = request_state()
    refused_bytes, environ = state.services.refused_bytes, state.request.environ
    if refused_bytes.is_used:
        refused_bytes.check(run_id)
    token = state.run_token
    limits: dict[str, Any] = (
        {} if token is None else {"models": token.models, "calls_per_minute": token.calls_per_minute}
    )
    headers = CallHeaders.of(environ)
    run = run_of(state, run_id, is_final=headers.is_final)
    call = state.call = Call(run, ClientConnection(environ), model, **limits)
    call.min_tokens = headers.min_tokens
    call.needs_time = NEEDS_TIME in environ
    call.turn = turn_of(state, run_id)
    return call


def counter_of(call: Call) -> TokenCounter | None:
    """The tokenizer of the call's model, if its price names one."""
    return services().prices.counter_of(call.model or services().settings.default_model)


def _header_run_id(request: Request) -> str | None:
    """The run id in the header. Only ASCII is accepted: other bytes of a header have no defined encoding."""
    given: str | None = request.environ.get(HEADER_KEY)
    if given is None:
        return None
    try:
        run_id: str = _RUN_ID.read(given)
    except ValidationError:
        run_id = ""
    if not run_id or not run_id.isascii():
        raise InvalidRequestError([_header_problem(NO_RUN_ID)])
    return run_id


def _header_problem(message: str) -> Problem:
    return Problem(["header", HEADER], message, "value_error")
