"""The request's id, and its one line in the log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import g, request

from ridges_proxy.pricing import usd_from_nanousd
from ridges_proxy.web.books import exact_usd
from ridges_proxy.web.call_metrics import Outcome, count, label_of
from ridges_proxy.web.parts import parts

if TYPE_CHECKING:
    from flask import Flask, Response

    from ridges_proxy.calls import Call
    from ridges_proxy.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

QUIET_ROUTES = frozenset({"/health", "/ready", "/metrics"})
"""Asked every few seconds by monitors: logged at DEBUG."""


def register(app: Flask) -> None:
    """Give every request an id and a line."""
    app.before_request(begin)
    app.after_request(finish)


def begin() -> None:
    """Note when the request came, and name it: by its X-Request-ID if that is sane, else anew."""
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
    g.started_at = time.monotonic()
    g.code = None
    g.call = None


def finish(response: Response) -> Response:
    """Put the id and the run's books on the answer, and write the line; a stream's when it is over."""
    response.headers["X-Request-ID"] = g.request_id
    call: Call | None = g.call
    if call is not None and call.books is not None:
        response.headers["X-Run-Cost-USD"] = exact_usd(call.books.spent_nanousd)
        response.headers["X-Run-Remaining-USD"] = exact_usd(call.books.remaining_nanousd)
    line = _Line(
        request_id=g.request_id,
        method=request.method,
        route=request.url_rule.rule if request.url_rule else None,
        status=response.status_code,
        code=g.code,
        started_at=g.started_at,
        call=call,
        metrics=parts().metrics,
        model_label=label_of(call.model if call else None),
    )
    if response.is_streamed:
        response.call_on_close(line.write)
    else:
        line.write()
    return response


@dataclass(frozen=True, slots=True)
class _Line:
    """What the line needs, kept until it is written: a stream outlives its request's context."""

    request_id: str
    method: str
    route: str | None
    status: int
    code: str | None
    started_at: float
    call: Call | None
    metrics: Metrics
    model_label: str

    def write(self) -> None:
        seconds = time.monotonic() - self.started_at
        outcome = Outcome(self.route, self.model_label, self._code(), seconds)
        count(self.metrics, outcome, self.call)
        level = logging.DEBUG if self.route in QUIET_ROUTES else logging.INFO
        if logger.isEnabledFor(level):
            logger.log(level, "request", extra=self._fields())

    def _fields(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "request_id": self.request_id,
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "code": self._code(),
            "milliseconds": round((time.monotonic() - self.started_at) * 1000, 1),
        }
        return fields if self.call is None else fields | _call_fields(self.call)

    def _code(self) -> str | None:
        """A stream that failed had sent its status before."""
        failure = self.call.failure if self.call else None
        return failure.code if failure else self.code


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
