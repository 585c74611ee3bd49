"""The request's id, and its one line in the log."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import TYPE_CHECKING

from flask import g, request

from ridges_proxy.pricing import usd_from_nanousd

if TYPE_CHECKING:
    from flask import Flask, Response

    from ridges_proxy.calls import Call

logger = logging.getLogger(__name__)

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

QUIET_ROUTES = frozenset({"/health", "/ready"})
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
    """Put the id and the run's books on the answer, and write the line."""
    response.headers["X-Request-ID"] = g.request_id
    call: Call | None = g.call
    if call is not None and call.books is not None:
        response.headers["X-Run-Cost-USD"] = f"{usd_from_nanousd(call.books.spent_nanousd):.9f}"
        response.headers["X-Run-Remaining-USD"] = f"{usd_from_nanousd(call.books.remaining_nanousd):.9f}"
    route = request.url_rule.rule if request.url_rule else None
    level = logging.DEBUG if route in QUIET_ROUTES else logging.INFO
    if logger.isEnabledFor(level):
        logger.log(level, "request", extra=_fields(response, route, call))
    return response


def _fields(response: Response, route: str | None, call: Call | None) -> dict[str, object]:
    fields: dict[str, object] = {
        "request_id": g.request_id,
        "method": request.method,
        "route": route,
        "status": response.status_code,
        "code": g.code,
        "milliseconds": round((time.monotonic() - g.started_at) * 1000, 1),
    }
    if call is not None:
        usage = call.attempt.usage
        fields |= {
            "run": call.run.id,
            "model": call.model,
            "prompt_tokens": usage.prompt_tokens if usage else None,
            "completion_tokens": usage.completion_tokens if usage else None,
            "cost_usd": usd_from_nanousd(call.cost_nanousd),
            "upstream_status": call.attempt.upstream_status,
            "upstream_milliseconds": round(call.attempt.seconds * 1000, 1),
        }
    return fields
