"""`/agents/*`: the migration guide's API. Agents compare its texts, so they stay letter for letter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, g, request

from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.billing.embedding_request import EmbeddingRequest
from ridges_proxy.errors import BudgetExhaustedError, InternalError, ModelNotSupportedError, UpstreamError
from ridges_proxy.web.callers import require_caller
from ridges_proxy.web.request_body import prepared
from ridges_proxy.web.responses import error_response, json_bytes_response, json_response
from ridges_proxy.web.run_context import begin_call, counter_of, usage_with_levels, with_run_id
from ridges_proxy.web.run_json import usage_json
from ridges_proxy.web.schemas.agents import EmbeddingSchema, InferenceSchema, UsageSchema
from ridges_proxy.web.schemas.request_schema import load, query_fields
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.calls.call import Call
    from ridges_proxy.errors import ProxyError

DEFAULT_TEMPERATURE = 0.7

EMPTY_ANSWER = "No response content received from the model"
UNSUPPORTED_MODEL = "Model {} not supported. Please use one of the following models: {}"
EXHAUSTED = (
    "Your agent version has reached the maximum cost for this evaluation run."
    " Please do not request more {} from this agent version."
)
FAILED = "Failed to get {} due to internal server error. Please try again later."

_REQUESTED = {"agents.inference": "inference", "agents.embedding": "embedding"}
_REFUSED = {"agents.inference": "inference", "agents.embedding": "embeddings or inference"}

agents = Blueprint("agents", __name__, url_prefix="/agents")
agents.before_request(require_caller)

_inference = InferenceSchema()
_embedding = EmbeddingSchema()
_usage = UsageSchema()


@agents.post("/inference")
def inference() -> Response:
    """The model's full answer to a chat, as a JSON string."""
    call, chat = prepared(begin_inference)
    text = services().calls.infer(call, chat)
    return json_response(text or EMPTY_ANSWER)


@agents.post("/embedding")
def embedding() -> Response:
    """The embedding of a text: the upstream's JSON, unchanged."""
    call, text = prepared(begin_embedding)
    return json_bytes_response(services().calls.embed(call, text))


def begin_inference(body: object) -> tuple[Call, ChatRequest]:
    """The call of a body with `run_id`, and its chat."""
    fields = load(_inference, with_run_id(body))
    call = begin_call(fields["run_id"], fields["model"])
    return call, chat_of(call, fields, {}, services().settings.max_tokens)


def chat_of(call: Call, fields: Mapping[str, Any], tools: Mapping[str, Any], max_tokens: int) -> ChatRequest:
    """The chat of an agent's validated fields, with the fields for its tools."""
    temperature = DEFAULT_TEMPERATURE if fields["temperature"] is None else fields["temperature"]
    return ChatRequest.of(
        fields["messages"], {"temperature": temperature, **tools}, max_tokens, counter=counter_of(call)
    )


def begin_embedding(body: object) -> tuple[Call, EmbeddingRequest]:
    """The call of a body with `run_id`, and its text."""
    fields = load(_embedding, with_run_id(body))
    return begin_call(fields["run_id"], None), EmbeddingRequest.of(fields["input"])


@agents.get("/usage")
def usage() -> Response:
    """A run's budget, and the spent, held and remaining amounts."""
    run_id = load(_usage, with_run_id(query_fields(request.args)), "query")["run_id"]
    return json_response(usage_json(usage_with_levels(run_id)))


@agents.errorhandler(BudgetExhaustedError)
def answer_exhausted(error: BudgetExhaustedError) -> Response:
    """200 with the guide's text, by which agents know that they must stop."""
    g.code = error.code
    return json_response({"error": EXHAUSTED.format(_REFUSED[str(request.endpoint)])})


@agents.errorhandler(ModelNotSupportedError)
def answer_unsupported(error: ModelNotSupportedError) -> Response:
    """200 with the guide's text, which lists the supported models."""
    g.code = error.code
    return json_response({"error": UNSUPPORTED_MODEL.format(error.model, error.supported)})


@agents.errorhandler(UpstreamError)
@agents.errorhandler(InternalError)
def answer_failure(error: ProxyError) -> Response:
    """500 with the guide's text for every upstream error and every bug; only the code differs."""
    requested = _REQUESTED.get(str(request.endpoint))
    return error_response(error, status=InternalError.status, detail=requested and FAILED.format(requested))
