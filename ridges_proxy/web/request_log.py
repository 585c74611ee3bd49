"""The id of each request, its response headers, and its line in the log."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import request

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.calls.budget_state import BudgetState
from ridges_proxy.errors import BudgetExhaustedError
from ridges_proxy.telemetry.logs import EventRecord
from ridges_proxy.web.call_metrics import count_request, model_label_of
from ridges_proxy.web.call_trace import record_spans
from ridges_proxy.web.finished_request import FinishedRequest
from ridges_proxy.web.refused_calls import is_refusal, run_of_request
from ridges_proxy.web.refused_requests import count_refused
from ridges_proxy.web.request_state import request_state
from ridges_proxy.web.run_json import exact_usd
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Flask

    from ridges_proxy.calls.call import Call
    from ridges_proxy.calls.refused_amounts import RefusedAmounts
    from ridges_proxy.errors import RateLimitStatus
    from ridges_proxy.ledger import RunUsage
    from ridges_proxy.web.service_response import ServiceResponse
    from ridges_proxy.web.services import Services

logger = logging.getLogger(__name__)

ID_BYTES = 16
"""Size of a random id."""

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

QUIET_ROUTES = frozenset({"/health", "/ready", "/metrics"})
QUIET_PAGES = "/dashboard"
"""GET requests of these routes, and of the pages below, are logged at DEBUG: monitors and open pages of the
dashboard send them every few seconds."""


def register(app: Flask) -> None:
    """Give every request an id and a line in the log."""
    app.before_request(begin)
    app.after_request(finish)


def begin() -> None:
    """Record the start of the request, and its id: a valid X-Request-ID, or else a new random id."""
    state = request_state()
    state.services, state.request = services(), request._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - see request_state.py
    given: str | None = state.request.environ.get("HTTP_X_REQUEST_ID")
    state.request_id = given if given and _SAFE_ID.fullmatch(given) else os.urandom(ID_BYTES).hex()
    state.started_at = time.monotonic()


def finish(response: ServiceResponse) -> ServiceResponse:
    """Add the response's headers, and write the line in the log; for a stream, at its end."""
    state = request_state()
    service, call, rule = state.services, state.call, state.request.url_rule
    headers = _headers(state.request_id, state.rate_limit, call)
    if state.code == BudgetExhaustedError.code and call is not None and call.run_usage is None:
        headers |= _amounts_left(call)
    response.own_headers = tuple(headers.items())
    if state.code is not None:
        count_refused(state.code, call)
    is_streamed = response.is_streamed
    line = _LogLine(
        services=service,
        request_id=state.request_id,
        method=state.request.method,
        route=rule.rule if rule else None,
        status=response.status_code,
        code=state.code,
        refusal_reason=state.refusal_reason,
        started_at=state.started_at,
        call=call,
        run_id=run_of_request() if state.code or is_streamed else None,
        model_label=model_label_of(service, call.model if call else None),
    )
    if is_streamed:
        response.call_on_close(line.write)
    else:
        line.write()
    return response


def _headers(request_id: str, rate_limit: RateLimitStatus | None, call: Call | None) -> dict[str, str]:
    """The request's id, the run's spent and remaining amounts, and the states of its budget and rate limit.

    The rate limit's headers follow draft-ietf-httpapi-ratelimit-headers-06, the form that most clients read.
    """
    headers = {"X-Request-ID": request_id}
    state = call.budget_state if call else None
    if call is not None and call.run_usage is not None and state is not None:
        headers |= _amounts(call.run_usage, state)
    rate_limit = rate_limit or (call.rate_limit_status if call else None)
    if rate_limit is not None:
        headers["RateLimit-Limit"] = str(rate_limit.limit)
        headers["RateLimit-Policy"] = f"{rate_limit.limit};w={rate_limit.window_seconds}"
        headers["RateLimit-Remaining"] = str(rate_limit.remaining)
        headers["RateLimit-Reset"] = str(rate_limit.reset_seconds)
    return headers


def _amounts(usage: RunUsage, state: BudgetState) -> dict[str, str]:
    return {
        "X-Run-Cost-USD": exact_usd(usage.spent_nanousd),
        "X-Run-Remaining-USD": exact_usd(usage.remaining_nanousd),
        "X-Run-Budget-State": state,
    }


def _amounts_left(call: Call) -> dict[str, str]:
    """The amounts of a run whose budget does not pay for the call. They explain the error."""
    usage = call.refused and call.refused.usage
    return _amounts(usage, BudgetState.FINAL) if usage else {}


@dataclass(slots=True)
class _LogLine:
    """The data of the line. A stream's line is written after the request's context has ended."""

    services: Services
    request_id: str
    method: str
    route: str | None
    status: int
    code: str | None
    refusal_reason: str | None
    """Why a run token was refused."""
    started_at: float
    call: Call | None
    run_id: str | None
    """The run for which a refusal counts."""
    model_label: str

    def write(self) -> None:
        finished = self._finished()
        count_request(self.services.metrics, finished, self.call)
        if finished.code and self.run_id is not None and is_refusal(finished.code, self.call):
            self.services.refusals.record(self.run_id, finished.code)
        if self.services.traces and self.call:
            record_spans(self.services.traces, self.services.settings, finished, self.call)
        level = logging.DEBUG if _is_quiet(finished) else logging.INFO
        fields = _request_fields(finished)
        if self.refusal_reason is not None:
            fields["reason"] = self.refusal_reason
        if self.call is not None:
            fields |= _call_fields(self.call)
            self.services.recent_calls.record(fields)
        if logger.isEnabledFor(level):
            logger.handle(EventRecord(logger.name, level, "request", fields))

    def _finished(self) -> FinishedRequest:
        # Set where a stream failed after its status was sent.
        failure = self.call.failure if self.call else None
        return FinishedRequest(
            request_id=self.request_id,
            method=self.method,
            route=self.route,
            status=self.status,
            code=failure.code if failure else self.code,
            model_label=self.model_label,
            seconds=time.monotonic() - self.started_at,
        )


def _is_quiet(finished: FinishedRequest) -> bool:
    if finished.method != "GET" or finished.route is None:
        return False
    return finished.route in QUIET_ROUTES or finished.route.startswith(QUIET_PAGES)


def _request_fields(finished: FinishedRequest) -> dict[str, object]:
    return {
        "request_id": finished.request_id,
        "method": finished.method,
        "route": finished.route,
        "status": finished.status,
        "code": finished.code,
        "milliseconds": round(finished.seconds * 1000, 1),
    }


def _call_fields(call: Call) -> dict[str, object]:
    usage = call.attempt.usage
    fields: dict[str, object] = {
        "run": call.run.id,
        "model": call.model,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cost_usd": usd_from_nanousd(call.cost_nanousd),
        "hold_wait_milliseconds": round(call.hold_wait_seconds * 1000, 1),
        "upstream_status": call.attempt.upstream_status,
        "upstream_milliseconds": round(call.attempt.seconds * 1000, 1),
    }
    if call.refused is not None:
        fields |= _refused_fields(call.minimum_nanousd, call.refused)
    return fields


def _refused_fields(needed_nanousd: int, refused: RefusedAmounts) -> dict[str, object]:
    """The least that a refused call needed, and what was left for it in which budget."""
    remaining_nanousd = refused.remaining_nanousd
    return {
        "budget": refused.budget.budget,
        "scope": refused.budget.scope,
        "needed_usd": usd_from_nanousd(needed_nanousd),
        "remaining_usd": None if remaining_nanousd is None else usd_from_nanousd(remaining_nanousd),
    }
