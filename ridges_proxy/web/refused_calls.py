"""Refused calls, counted for their run by the code of the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g, request
from marshmallow import ValidationError

from ridges_proxy.errors import RefusedError, UnavailableError
from ridges_proxy.web.refused_requests import classes_of
from ridges_proxy.web.schemas.values import RunId

if TYPE_CHECKING:
    from ridges_proxy.calls.call import Call

REFUSING_CODES = frozenset(
    each.code for base in (RefusedError, UnavailableError) for each in classes_of(base)
)
"""The codes of errors by which the proxy refuses a call. Calls that fail later have others."""

_RUN_ID = RunId()


def run_of_request() -> str | None:
    """The run for which a refusal of this request counts; None if it is no call, or names no valid run.

    A request counts for its run also if its body is invalid. Nothing counts before the caller's key is
    checked: until then the run is only a claim.
    """
    if request.method != "POST" or "run_token" not in g or g.is_estimate:
        return None
    if g.call is not None:
        return str(g.call.run.id)
    if g.run_token is not None:
        return str(g.run_token.run_id)
    try:
        return _RUN_ID.read(g.named_run)
    except ValidationError:
        return None


def is_refusal(code: str, call: Call | None) -> bool:
    """Whether the code is that of a refused call: nothing of it was sent to the upstream."""
    was_sent = call is not None and (call.attempt.sent or call.attempt.earlier_seconds > 0)
    return code in REFUSING_CODES and not was_sent
