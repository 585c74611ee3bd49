"""The forms that errors take: one for each surface. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ridges_proxy.errors import InvalidRequestError, UpstreamRejectedError

if TYPE_CHECKING:
    from ridges_proxy.errors import Problem, ProxyError

OPENAI_PATHS = "/v1/"

OPENAI_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.PAYMENT_REQUIRED: "insufficient_quota",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
"""By status; what is not here is an invalid_request_error below 500, and a server_error from there on."""

MAX_NAMED_PROBLEMS = 5
"""How many of a request's problems the one message names."""

MAX_PLACE_CHARACTERS = 200
"""Of a place that is named: a body may be one long name."""


def agents_envelope(code: str, detail: object, request_id: str) -> dict[str, Any]:
    """What agents know: `detail`, and our code beside it."""
    return {"detail": detail, "code": code, "request_id": request_id}


def openai_envelope(
    status: int, code: str, message: str, request_id: str, param: str | None = None
) -> dict[str, Any]:
    """What clients of OpenAI's API know."""
    usual = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    kind = OPENAI_TYPES.get(HTTPStatus(status), usual) if status in _KNOWN_STATUSES else usual
    return {
        "error": {"message": message, "type": kind, "param": param, "code": code},
        "request_id": request_id,
    }


def openai_error(error: ProxyError, request_id: str) -> tuple[int, dict[str, Any]]:
    """An error of ours as `/v1` answers it: its status, and its body."""
    status, message, param = error.status, error.message, None
    if isinstance(error, InvalidRequestError):
        status, message, param = HTTPStatus.BAD_REQUEST, _words(error.problems), _place(error.problems[0])
    elif isinstance(error, UpstreamRejectedError) and error.detail:
        message = error.detail
    return status, openai_envelope(status, error.code, message, request_id, param)


_KNOWN_STATUSES = frozenset(HTTPStatus)


def _words(problems: list[Problem]) -> str:
    named = [f"{_place(problem) or 'the body'}: {problem.msg}" for problem in problems[:MAX_NAMED_PROBLEMS]]
    more = len(problems) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _place(problem: Problem) -> str | None:
    """Where a problem is, as OpenAI writes it: `messages[0].content`; None for the body as a whole."""
    if problem.type == "json_invalid":
        return None  # its place is a number of characters
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.loc[1:])
    return path.removeprefix(".")[:MAX_PLACE_CHARACTERS] or None
