"""`/v1/*`: OpenAI's API, with the same accounting as `/agents`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, g, request

from ridges_proxy.billing.embedding_request import EmbeddingRequest
from ridges_proxy.errors import ModelNotSupportedError
from ridges_proxy.web.callers import require_caller
from ridges_proxy.web.estimate_json import estimate_json
from ridges_proxy.web.event_stream import stream_response
from ridges_proxy.web.model_list import models_json
from ridges_proxy.web.request_body import prepared
from ridges_proxy.web.responses import converted_response, json_bytes_response, json_response
from ridges_proxy.web.run_context import begin_call, counter_of, usage_with_levels, with_run_id
from ridges_proxy.web.run_json import own_usage_json
from ridges_proxy.web.schemas.chat import ChatSchema, chat_from
from ridges_proxy.web.schemas.embeddings import EmbeddingsSchema, Form, embeddings_json
from ridges_proxy.web.schemas.request_schema import load, query_fields
from ridges_proxy.web.schemas.usage_query import UsageQuerySchema
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from ridges_proxy.billing.chat_request import ChatRequest
    from ridges_proxy.calls.call import Call
    from ridges_proxy.upstream import BufferedBody

v1 = Blueprint("v1", __name__, url_prefix="/v1")
v1.before_request(require_caller)

_chat = ChatSchema()
_embeddings = EmbeddingsSchema()
_usage = UsageQuerySchema()


@v1.post("/chat/completions")
def chat_completions() -> Response:
    """A chat completion, as one JSON document or as a stream of events."""
    call, chat, stream = prepared(begin_chat)
    if stream:
        return stream_response(call, services().calls.relay(call, chat))
    return json_bytes_response(services().calls.complete(call, chat))


@v1.post("/estimate")
def estimate() -> Response:
    """Estimate the same chat: its hold, and whether it would be admitted. Nothing is held or called."""
    g.is_estimate = True
    call, chat, _ = prepared(begin_chat)
    return json_response(estimate_json(call, services().calls.estimate(call, chat)))


@v1.post("/embeddings")
def embeddings() -> Response:
    """The embeddings of one or more texts."""
    call, embedding, form = prepared(_begin_embeddings)
    body = services().calls.embed(call, embedding)

    def convert(body: BufferedBody) -> list[bytes]:
        counts, cost_nanousd = embedding.counts, call.cost_nanousd
        return embeddings_json(body.contents, counts, form, cost_nanousd, services().settings)

    return converted_response(call, body, convert)


@v1.get("/usage")
def usage() -> Response:
    """The run's budget, its amounts, its tokens and its costs by model. The token or the header names it."""
    run_id = load(_usage, with_run_id(query_fields(request.args)), "query")["run_id"]
    return json_response(own_usage_json(usage_with_levels(run_id)))


@v1.get("/models")
def list_models() -> Response:
    """List the models that have a price."""
    return json_response({"object": "list", "data": _models()})


@v1.get("/models/<text:name>")
def show_model(name: str) -> Response:
    """Show one model."""
    models = _models()
    found = [model for model in models if model["id"] == name]
    if not found:
        raise ModelNotSupportedError(name, [model["id"] for model in models])
    return json_response(found[0])


def _models() -> list[dict[str, Any]]:
    """The models that the caller may use."""
    token = g.run_token
    allowed = None if token is None else token.models
    prices = services().prices.allowed(allowed)
    return models_json(prices, services().settings, allowed, services().context_lengths)


def begin_chat(body: object) -> tuple[Call, ChatRequest, bool]:
    """The call of a chat, the chat, and whether its answer is streamed."""
    fields = load(_chat, with_run_id(body))
    call = begin_call(fields["run_id"], fields.get("model"))
    chat = chat_from(fields, services().settings.openai_max_tokens, counter_of(call))
    return call, chat, bool(fields.get("stream"))


def _begin_embeddings(body: object) -> tuple[Call, EmbeddingRequest, Form]:
    fields = load(_embeddings, with_run_id(body))
    call = begin_call(fields["run_id"], fields.get("model"))
    batch = services().settings.embedding_batch
    return call, EmbeddingRequest.of(fields["input"], batch), Form.of(fields)
