"""`/v1/responses`: OpenAI's Responses API without stored responses, on the same path as a chat completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flask import Blueprint, Response

from ridges_proxy.web.callers import require_caller
from ridges_proxy.web.event_stream import Ending, stream_response
from ridges_proxy.web.request_body import prepared
from ridges_proxy.web.responses import converted_response
from ridges_proxy.web.responses_api.answers import response_events, response_json
from ridges_proxy.web.responses_api.chat_fields import chat_fields
from ridges_proxy.web.responses_api.response_object import ResponseForm
from ridges_proxy.web.responses_api.stream import ResponseStream
from ridges_proxy.web.routes.openai import begin_chat
from ridges_proxy.web.run_context import with_run_id
from ridges_proxy.web.schemas.request_schema import load
from ridges_proxy.web.schemas.response_request import ResponsesSchema
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from ridges_proxy.billing.chat_request import ChatRequest
    from ridges_proxy.calls.call import Call

v1_responses = Blueprint("responses", __name__, url_prefix="/v1")
v1_responses.before_request(require_caller)

_responses = ResponsesSchema()


class _Begun(NamedTuple):
    call: Call
    chat: ChatRequest
    form: ResponseForm
    is_streamed: bool


@v1_responses.post("/responses")
def create_response() -> Response:
    """A response of OpenAI's Responses API, as one JSON document or as a stream of events.

    Nothing is stored: each request has the complete conversation, and `store` changes nothing.
    """
    call, chat, form, is_streamed = prepared(_begin)
    if is_streamed:
        stream = ResponseStream(form)
        pieces = response_events(services().calls.relay(call, chat), stream)
        return stream_response(call, pieces, Ending(b"", lambda body: stream.fail(body["error"])))
    body = services().calls.complete(call, chat)
    return converted_response(call, body, lambda body: [response_json(form, body.content)])


def _begin(body: object) -> _Begun:
    request = load(_responses, with_run_id(body))
    call, chat, is_streamed = begin_chat(chat_fields(request))
    form = ResponseForm.of(request, call.model or services().settings.default_model)
    return _Begun(call, chat, form, is_streamed)
