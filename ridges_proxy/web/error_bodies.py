"""The JSON bodies of errors, one form for each API. Pure functions."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ridges_proxy.errors import InvalidRequestError, RunBusyError, UpstreamError, UpstreamRejectedError
from ridges_proxy.web.error_hints import hint_of
from ridges_proxy.web.openrouter import OPENROUTER_PATH, openrouter_error_body
from ridges_proxy.web.refusals import message_of, refusal_json

if TYPE_CHECKING:
    from ridges_proxy.errors import Problem, ProxyError

OPENAI_PATHS = ("/v1/", OPENROUTER_PATH)

OPENAI_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.PAYMENT_REQUIRED: "insufficient_quota",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
"""OpenAI's error types by status; otherwise invalid_request_error below 500, server_error from 500."""

OWN_TYPES = {RunBusyError.code: "run_busy_error"}
"""Types of errors by code, before the status. Agents take a 429 with the word "limit" for final."""

MAX_NAMED_PROBLEMS = 5
"""How many of a request's problems the message of a `/v1` error names."""

MAX_LOCATION_CHARACTERS = 200
"""Length at which the name of an invalid field is cut: the caller chooses the names in its body."""

_KNOWN_STATUSES = frozenset(HTTPStatus)


def agents_error_body(code: str, detail: object, request_id: str, hint: str = "") -> dict[str, Any]:
    """The form of `/agents`: the guide's `detail`, with the error's code and the request's id beside it.

    A hint stands beside it, too, because agents compare the `detail`.
    """
    body = {"detail": detail, "code": code, "request_id": request_id}
    return {**body, "hint": hint} if hint else body


def with_hint(message: str, hint: str) -> str:
    """A message and its hint as one text, for OpenAI's form."""
    return f"{message}. {hint}" if hint else message


def openai_error_body(  # noqa: PLR0913 - the last one has a default
    path: str, status: int, code: str, message: str, request_id: str, *, param: str | None = None
) -> dict[str, Any]:
    """The form of OpenAI's API, with the request's id beside it. On `/api/v1`, that of OpenRouter's API."""
    default = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    kind = OPENAI_TYPES.get(HTTPStatus(status), default) if status in _KNOWN_STATUSES else default
    kind = OWN_TYPES.get(code, kind)
    body = {
        "error": {"message": message, "type": kind, "param": param, "code": code},
        "request_id": request_id,
    }
    return openrouter_error_body(status, body) if f"{path}/".startswith(OPENROUTER_PATH) else body


def openai_status_and_body(error: ProxyError, path: str, request_id: str) -> tuple[int, dict[str, Any]]:
    """The status and the body with which a path of `/v1` or `/api/v1` answers an error."""
    status, code, message, param = error.status, error.code, message_of(error), None
    if isinstance(error, InvalidRequestError):
        # OpenAI's API answers 400 to an invalid request, not 422.
        status = HTTPStatus.BAD_REQUEST
        message, param = _problems_message(error.problems), _location(error.problems[0])
        message += f": {error.cause}" if error.cause else ""
    elif isinstance(error, UpstreamError):
        message = error.detail or message
    if isinstance(error, UpstreamRejectedError):
        code, param = error.upstream_code or code, error.param
    message = with_hint(message, hint_of(error))
    body = openai_error_body(path, status, code, message, request_id, param=param)
    body["error"] |= refusal_json(error)
    return status, body


def _problems_message(problems: list[Problem]) -> str:
    named = [
        f"{_location(problem) or 'the body'}: {problem.msg}" for problem in problems[:MAX_NAMED_PROBLEMS]
    ]
    more = len(problems) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _location(problem: Problem) -> str | None:
    """The invalid field as OpenAI writes it, `messages[0].content`. None: the problem is the whole body."""
    if problem.type == "json_invalid":
        return None  # its location is a character's position
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.loc[1:])
    return path.removeprefix(".")[:MAX_LOCATION_CHARACTERS] or None
