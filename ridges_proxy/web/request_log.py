"""The request's id, and its one line in the log."""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import g, request

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.web.call_metrics import count, label_of
from ridges_proxy.web.call_trace import trace
from ridges_proxy.web.outcome import Outcome
from ridges_proxy.web.run_json import exact_usd
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Flask, Response

    from ridges_proxy.calls.service import Call
    from ridges_proxy.errors import RateLimitStatus
    from ridges_proxy.web.services import Services

logger = logging.getLogger(__name__)

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

QUIET_ROUTES = frozenset(
    {"/health", "/ready", "/metrics", "/dashboard", "/dashboard/run", "/dashboard/static/<path:filename>"}
)
"""Asked every few seconds by monitors, and by pages that are open: logged at DEBUG."""


def register(app: Flask) -> None:
    """Give every request an id and a line."""
    app.before_request(begin)
    app.after_request(finish)


def begin() -> None:
    """Note when the request came, and name it: by its X-Request-ID if that is sane, else anew."""
    given = request.headers.get("X-Request-ID")
    facts = g._get_current_object()  # noqa: SLF001 - Werkzeug's way past its proxy, which costs 0.5 µs each time
    facts.request_id = given if given and _SANE_ID.fullmatch(given) else secrets.token_hex(16)
    facts.started_at = time.monotonic()
    facts.code = facts.call = facts.standing = None


def finish(response: Response) -> Response:
    """Put the id and the run's books on the answer, and write the line; a stream's when it is over."""
    facts = g._get_current_object()  # noqa: SLF001 - as above
    call: Call | None = facts.call
    response.headers.extend(_told(facts.request_id, facts.standing, call))
    rule = request.url_rule
    here = services()
    line = _Line(
        services=here,
        request_id=facts.request_id,
        method=request.method,
        route=rule.rule if rule else None,
        status=response.status_code,
        code=facts.code,
        started_at=facts.started_at,
        call=call,
        model_label=label_of(here, call.model if call else None),
    )
    if response.is_streamed:
        response.call_on_close(line.write)
    else:
        line.write()
    return response


def _told(request_id: str, standing: RateLimitStatus | None, call: Call | None) -> dict[str, str]:
    """The id, the run's books, and the rate limit, as most clients know it.

    (draft-ietf-httpapi-ratelimit-headers-06)
    """
    told = {"X-Request-ID": request_id}
    if call is not None and call.books is not None:
        told["X-Run-Cost-USD"] = exact_usd(call.books.spent_nanousd)
        told["X-Run-Remaining-USD"] = exact_usd(call.books.remaining_nanousd)
    standing = standing or (call.standing if call else None)
    if standing is not None:
        told["RateLimit-Limit"] = str(standing.limit)
        told["RateLimit-Policy"] = f"{standing.limit};w={standing.window_seconds}"
        told["RateLimit-Remaining"] = str(standing.remaining)
        told["RateLimit-Reset"] = str(standing.reset_seconds)
    return told


@dataclass(slots=True)
class _Line:
    """What the line needs, kept until it is written: a stream outlives its request's context."""

    services: Services
    request_id: str
    method: str
    route: str | None
    status: int
    code: str | None
    started_at: float
    call: Call | None
    model_label: str

    def write(self) -> None:
        outcome = self._outcome()
        count(self.services.metrics, outcome, self.call)
        if self.services.traces and self.call:
            trace(self.services.traces, self.services.settings, outcome, self.call)
        level = logging.DEBUG if self.route in QUIET_ROUTES else logging.INFO
        fields = _fields(outcome)
        if self.call is not None:
            fields |= _call_fields(self.call)
            self.services.recent_calls.note(fields)
        if logger.isEnabledFor(level):
            logger.log(level, "request", extra=fields)

    def _outcome(self) -> Outcome:
        # A stream that failed had sent its status before.
        failure = self.call.failure if self.call else None
        return Outcome(
            request_id=self.request_id,
            method=self.method,
            route=self.route,
            status=self.status,
            code=failure.code if failure else self.code,
            model=self.model_label,
            seconds=time.monotonic() - self.started_at,
        )


def _fields(outcome: Outcome) -> dict[str, object]:
    return {
        "request_id": outcome.request_id,
        "method": outcome.method,
        "route": outcome.route,
        "status": outcome.status,
        "code": outcome.code,
        "milliseconds": round(outcome.seconds * 1000, 1),
    }


def _call_fields(call: Call) -> dict[str, object]:
    usage = call.attempt.usage
    return {
        "run": call.run.id,
        "model": call.model,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "cost_usd": usd_from_nanousd(call.cost_nanousd),
        "upstream_status": call.attempt.upstream_status,
        "upstream_milliseconds": round(call.attempt.seconds * 1000, 1),
    }
