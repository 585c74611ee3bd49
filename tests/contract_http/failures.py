"""Failures of the upstream, with the error code of each. Most contain UPSTREAM_CANARY."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import requests

from tests.contract_http.service import DONE, answer_of, delta, sse, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    import responses

UPSTREAM_CANARY = "canary-of-the-upstream"


@dataclass(frozen=True)
class Failure:
    """A faulty answer of the upstream, or an exception, and the error code that follows."""

    code: str
    body: bytes | Exception
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    upstream_code: str | None = None
    """The upstream's own code, which `/v1` passes on."""

    @property
    def v1_code(self) -> str:
        return self.upstream_code or self.code

    def arrange(self, upstream: responses.RequestsMock, url: str) -> None:
        upstream.post(url, body=self.body, status=self.status, headers=self.headers)


def _refusal(status: int, code: str, detail: object) -> Failure:
    return Failure(code, orjson.dumps({"detail": detail, "canary": UPSTREAM_CANARY}), status)


def _stream(body: bytes, **headers: str) -> Failure:
    return Failure("upstream_broken", body, headers=headers)


REFUSALS: Mapping[str, Failure] = {
    "401_no_key": _refusal(401, "upstream_auth", "Authentication required."),
    "401_bad_key": _refusal(401, "upstream_auth", "Invalid token or user not found"),
    "403": _refusal(403, "upstream_auth", "Forbidden"),
    "402_dict": _refusal(402, "upstream_quota", {"message": "Quota exceeded", "quota_reset_timestamp": 1}),
    "402_text": Failure("upstream_quota", f"Quota exceeded {UPSTREAM_CANARY}".encode(), 402),
    "404_model": _refusal(404, "upstream_model", "model not found: X"),
    "404_cord": _refusal(404, "upstream_model", "No matching cord found!"),
    "400": _refusal(400, "upstream_rejected", "Invalid request: too long"),
    "400_dict": Failure(
        "upstream_rejected",
        orjson.dumps({"detail": {"code": "context_length_exceeded"}, "canary": UPSTREAM_CANARY}),
        400,
        upstream_code="context_length_exceeded",
    ),
    "422": _refusal(422, "upstream_rejected", []),
    "429_capacity": _refusal(429, "upstream_busy", "Infrastructure is at maximum capacity, try again later"),
    "429_maintenance": _refusal(429, "upstream_busy", "model is under maintenance"),
    "429_spam": _refusal(429, "upstream_busy", "Stop spamming this prompt, please..."),
    "503": _refusal(503, "upstream_no_instance", "No instances available (yet) for chute_id='X'"),
    "500_exhausted": _refusal(500, "upstream_failed", "exhausted all available targets to no avail"),
    "500_no_result": _refusal(500, "upstream_failed", "No result returned from upstream"),
    "502_of_a_gateway": Failure("upstream_failed", b"<html>Bad Gateway</html>", 502),
    "301_elsewhere": Failure("upstream_failed", b"", 301, {"Location": f"http://{UPSTREAM_CANARY}.test/"}),
}
"""Answers with an error status. They cost nothing."""

EXCEPTIONS: Mapping[str, Failure] = {
    "read_timeout": Failure("upstream_timeout", requests.ReadTimeout(UPSTREAM_CANARY)),
    "reset": Failure("upstream_broken", ConnectionResetError(UPSTREAM_CANARY)),
    "disconnected": Failure("upstream_broken", requests.ConnectionError(UPSTREAM_CANARY)),
    "chunk_cut": Failure("upstream_broken", requests.exceptions.ChunkedEncodingError(UPSTREAM_CANARY)),
}
"""Requests without an answer. They count as sent: `responses` reads the body before it fails."""

_BARE_ERROR = (
    b'{"error":"Unhandled exception during response stream:'
    b' exhausted all available targets to no avail canary-of-the-upstream"}\n'
)
_HALF = sse(delta("Half an answer"))

STREAMS: Mapping[str, Failure] = {
    "bare_error_line": _stream(_HALF + _BARE_ERROR),
    "error_event_after_text": _stream(_HALF + sse({"error": {"message": UPSTREAM_CANARY}}, DONE)),
    "internal_server_error_as_text": _stream(answer_of("Internal Server Error")),
    "failure_text_inside_a_text": _stream(answer_of("So: exhausted all available targets, it says")),
    "failure_text_in_two_pieces": _stream(answer_of("Internal Ser", "ver Error")),
    "truncated_after_an_event": _stream(_HALF),
    "truncated_inside_an_event": _stream(_HALF + b'data: {"id":"chat-1","choices":[{"del'),
    "truncated_before_the_first": _stream(b""),
    "not_a_stream": _stream(b"<html>canary-of-the-upstream</html>"),
    "no_json": _stream(sse(b"{canary-of-the-upstream", DONE)),
    "no_object": _stream(sse([UPSTREAM_CANARY], DONE)),
    "choices_no_list": _stream(sse({"choices": UPSTREAM_CANARY}, DONE)),
    "choice_no_object": _stream(sse({"choices": [UPSTREAM_CANARY]}, DONE)),
    "usage_beside_a_cut_text": _stream(sse({**delta("Half an answer"), "usage": tokens(10, 5)["usage"]})),
    "failed_end": _stream(sse(delta("Half an answer"), delta("", finish_reason="abort"), DONE)),
    "compressed": _stream(answer_of("Hi"), **{"Content-Encoding": "gzip"}),
}
"""Answers with the status 200 that are failures."""

ERROR_OBJECTS: Mapping[str, Failure] = {
    "bare_error_line_at_once": Failure("upstream_failed", _BARE_ERROR),
    "bare_status": Failure("upstream_failed", b'{"status":500,"detail":"canary-of-the-upstream"}'),
    "error_event": Failure("upstream_failed", sse({"error": UPSTREAM_CANARY}, DONE)),
    "error_event_400": Failure(
        "upstream_rejected", sse({"error": {"message": "too long", "code": 400}}, DONE)
    ),
    "error_event_429": Failure(
        "upstream_busy", sse({"object": "error", "message": "busy", "code": 429}, DONE)
    ),
}
"""Errors in place of a stream, after the status 200. They cost nothing."""

NOT_JSON: Mapping[str, Failure] = {
    "html": _stream(b"<html>canary-of-the-upstream</html>"),
    "cut": _stream(b"[[0.1, 0.2"),
    "empty": _stream(b""),
    "nan": _stream(b"[[NaN]]"),
    "invalid_utf_8": _stream(b'"\xff"'),
    "compressed": _stream(b"[[0.1]]", **{"Content-Encoding": "gzip"}),
}
"""Answers that are not the JSON of an embedding."""


def each(*groups: Mapping[str, Failure]) -> list[Any]:
    """Parameters of a test, with their names."""
    return [pytest.param(failure, id=name) for group in groups for name, failure in group.items()]
