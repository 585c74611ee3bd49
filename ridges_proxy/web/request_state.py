"""The request that is being answered, and what is known of it so far.

Flask's `request`, `g` and `current_app` look their object up at each use, in five function calls. Code that
runs at each call takes all from the state, which is looked up once in each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g
from flask.ctx import _AppCtxGlobals as AppCtxGlobals

if TYPE_CHECKING:
    from flask import Request

    from ridges_proxy.auth.token_claims import RunToken
    from ridges_proxy.calls.call import Call
    from ridges_proxy.errors import RateLimitStatus
    from ridges_proxy.upstream import BufferedBody
    from ridges_proxy.web.services import Services


class RequestState(AppCtxGlobals):
    """Flask's `g`, with the values that a request begins with."""

    request: Request
    services: Services
    request_id: str
    started_at: float
    """On the clock `time.monotonic`."""
    code: str | None = None
    """The code of the error that answers the request."""
    call: Call | None = None
    run_token: RunToken | None
    """Set when the caller's key has been checked. None: it is a shared key."""
    named_run: str | None = None
    """The run that the request names, valid or not."""
    limited_address: str | None = None
    """The caller's address as limits count it, once it is known."""
    rate_limit: RateLimitStatus | None = None
    """The status of the limit that refuses the request."""
    refusal_reason: str | None = None
    """Why a key or a run token was refused, for the log."""
    is_estimate: bool = False
    unsent_body: BufferedBody | None = None
    """The memory of an upstream response that is the answer."""

    __setattr__ = object.__setattr__  # type: ignore[assignment] # Flask's own is written in Python


def request_state() -> RequestState:
    """The state of the present request."""
    return g._get_current_object()  # type: ignore[no-any-return] # noqa: SLF001 - documented, despite its name
