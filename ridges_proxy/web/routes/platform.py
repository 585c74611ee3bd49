"""`/api/*`: the contracts of the platform's later gateways, with the same accounting as `/agents` and `/v1`.

A body or query with `run_id` has the form of `/agents`, one with `evaluation_run_id` the later form. Agents
on these routes read the status of an error, so there are no errors with the status 200.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from ridges_proxy.billing.embedding_request import EmbeddingRequest
from ridges_proxy.errors import (
    BudgetExhaustedError,
    InvalidRequestError,
    ModelNotSupportedError,
    Problem,
    UpstreamError,
)
from ridges_proxy.web.callers import require_caller
from ridges_proxy.web.event_stream import stream_response
from ridges_proxy.web.openrouter import openrouter_answer
from ridges_proxy.web.request_body import prepared
from ridges_proxy.web.responses import converted_response, error_response, json_bytes_response, json_response
from ridges_proxy.web.routes.agents import (
    EMPTY_ANSWER,
    UNSUPPORTED_MODEL,
    begin_embedding,
    begin_inference,
    chat_of,
)
from ridges_proxy.web.routes.agents import usage as agents_usage
from ridges_proxy.web.routes.openai import begin_chat, embeddings, list_models, show_model
from ridges_proxy.web.run_context import begin_call, usage_with_levels, with_run_id
from ridges_proxy.web.run_json import evaluation_usage_json, total_usage_json
from ridges_proxy.web.schemas.embeddings import vectors_of
from ridges_proxy.web.schemas.platform import (
    RUN_FIELD,
    LaterEmbeddingSchema,
    LaterInferenceSchema,
    LaterUsageSchema,
    message_json,
    tool_fields,
)
from ridges_proxy.web.schemas.request_schema import load, query_fields
from ridges_proxy.web.schemas.usage_query import UsageQuerySchema
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from ridges_proxy.billing.chat_request import ChatRequest
    from ridges_proxy.calls.call import Call

EXHAUSTED = (
    "The evaluation run has reached or exceeded the evaluation run cost limit: what remains of its budget"
    " does not pay for this call. Do not retry it"
)
"""Agents look for `cost limit` in a 429."""

OTHER_RUN = (
    f"Input should be the run that {RUN_FIELD} names: send one of the two fields, or the same run in both"
)

platform = Blueprint("platform", __name__, url_prefix="/api")
platform.before_request(require_caller)

platform_v1 = Blueprint("platform_v1", __name__, url_prefix="/api/v1")
"""The routes of the platform's sandbox proxy, which are OpenRouter's."""
platform_v1.before_request(require_caller)
platform_v1.post("/embeddings")(embeddings)
platform_v1.get("/models")(list_models)
platform_v1.get("/models/<text:name>")(show_model)

_inference = LaterInferenceSchema()
_embedding = LaterEmbeddingSchema()
_usage = LaterUsageSchema()
_run = UsageQuerySchema()


@platform.post("/inference")
def inference() -> Response:
    """The model's answer to a chat: a JSON string, or for `evaluation_run_id` its text and tool calls."""
    call, chat, is_later = prepared(_begin_inference)
    if is_later:
        return json_response(message_json(services().calls.infer_message(call, chat)))
    return json_response(services().calls.infer(call, chat) or EMPTY_ANSWER)


@platform.post("/embedding")
def embedding() -> Response:
    """The embedding of a text: the upstream's JSON, unchanged, or for `evaluation_run_id` its vector."""
    call, text, is_later = prepared(_begin_embedding)
    if not is_later:
        return json_bytes_response(services().calls.embed(call, text))
    with services().calls.embed(call, text) as body:
        (vector,) = vectors_of(body.content, 1, services().settings)
        return json_response({"embedding": vector})


@platform.get("/usage")
def usage() -> Response:
    """A run's budget, and the spent and remaining amounts."""
    query = query_fields(request.args)
    if not _is_later(query, "query"):
        return agents_usage()
    run_id = load(_usage, with_run_id(query, RUN_FIELD), "query")[RUN_FIELD]
    return json_response(evaluation_usage_json(usage_with_levels(run_id)))


@platform_v1.post("/chat/completions")
def chat_completions() -> Response:
    """A chat completion as on `/v1`. A whole one always has the field `system_fingerprint`."""
    call, chat, stream = prepared(begin_chat)
    if stream:
        return stream_response(call, services().calls.relay(call, chat))
    body = services().calls.complete(call, chat)
    return converted_response(call, body, lambda body: [openrouter_answer(body.content)])


@platform_v1.get("/usage")
def total_usage() -> Response:
    """The usage of the run of the token, of `X-Run-Id` or of the query."""
    run_id = load(_run, with_run_id(query_fields(request.args)), "query")["run_id"]
    return json_response(total_usage_json(usage_with_levels(run_id)))


@platform.errorhandler(BudgetExhaustedError)
def answer_exhausted(error: BudgetExhaustedError) -> Response:
    """429 with words about the cost limit, by which agents know that they must stop."""
    return error_response(error, status=HTTPStatus.TOO_MANY_REQUESTS, detail=EXHAUSTED)


@platform.errorhandler(ModelNotSupportedError)
def answer_unsupported(error: ModelNotSupportedError) -> Response:
    """404 with the text of `/agents`, which lists the supported models."""
    return error_response(error, detail=UNSUPPORTED_MODEL.format(error.model, error.supported))


@platform.errorhandler(UpstreamError)
def answer_failure(error: UpstreamError) -> Response:
    """The error's own status, with the upstream's message if there is one, as on `/v1`."""
    return error_response(error, detail=error.detail)


def _is_later(fields: object, source: str = "body") -> bool:
    """Whether a body or a query has the later form. Raises InvalidRequestError if it names two runs."""
    if not isinstance(fields, dict) or (run_id := fields.get(RUN_FIELD)) is None:
        return False
    if fields.get("run_id") not in (None, run_id):
        raise InvalidRequestError([Problem([source, "run_id"], OTHER_RUN, "value_error")])
    return True


def _begin_inference(body: object) -> tuple[Call, ChatRequest, bool]:
    if not _is_later(body):
        return *begin_inference(body), False
    fields = load(_inference, with_run_id(body, RUN_FIELD))
    tools = tool_fields(fields)
    call = begin_call(fields[RUN_FIELD], fields["model"])
    return call, chat_of(call, fields, tools, services().settings.openai_max_tokens), True


def _begin_embedding(body: object) -> tuple[Call, EmbeddingRequest, bool]:
    if not _is_later(body):
        return *begin_embedding(body), False
    fields = load(_embedding, with_run_id(body, RUN_FIELD))
    return begin_call(fields[RUN_FIELD], None), EmbeddingRequest.of(fields["input"]), True
