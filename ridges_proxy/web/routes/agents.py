"""`/agents/*`: the contract that agents in the field depend on; its texts are theirs, letter for letter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, g, request

from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.billing.embedding_request import EmbeddingRequest
from ridges_proxy.errors import BudgetExhaustedError, InternalError, ModelNotSupportedError, UpstreamError
from ridges_proxy.web.callers import require_caller
from ridges_proxy.web.request_body import json_body
from ridges_proxy.web.responses import error_reply, json_bytes_response, json_reply
from ridges_proxy.web.run_context import begin_call, books_of, name_run
from ridges_proxy.web.run_json import usage_json
from ridges_proxy.web.schemas.fields import EmbeddingSchema, InferenceSchema, UsageSchema, load, query_fields
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from ridges_proxy.calls.service import Call
    from ridges_proxy.errors import ProxyError

DEFAULT_TEMPERATURE = 0.7

EMPTY_ANSWER = "No response content received from the model"
UNSUPPORTED_MODEL = "Model {} not supported. Please use one of the following models: {}"
EXHAUSTED = (
    "Your agent version has reached the maximum cost for this evaluation run."
    " Please do not request more {} from this agent version."
)
FAILED = "Failed to get {} due to internal server error. Please try again later."

_WANTED = {"agents.inference": "inference", "agents.embedding": "embedding"}
_REFUSED = {"agents.inference": "inference", "agents.embedding": "embeddings or inference"}

agents = Blueprint("agents", __name__, url_prefix="/agents")
agents.before_request(require_caller)

_inference = InferenceSchema()
_embedding = EmbeddingSchema()
_usage = UsageSchema()


@agents.post("/inference")
def inference() -> Response:
    """Answer a chat with the model's whole text, as a JSON string."""
    fields = load(_inference, name_run(json_body()))
    call = begin_call(fields["run_id"], fields["model"])
    temperature = DEFAULT_TEMPERATURE if fields["temperature"] is None else fields["temperature"]
    chat = ChatRequest.of(fields["messages"], {"temperature": temperature}, services().settings.max_tokens)
    text = services().calls.infer(call, chat)
    return json_reply(text or EMPTY_ANSWER)


@agents.post("/embedding")
def embedding() -> Response:
    """Answer a text with the embed chute's JSON as it came."""
    call, texts = _begin_embedding()
    return json_bytes_response(services().calls.embed(call, texts))


def _begin_embedding() -> tuple[Call, EmbeddingRequest]:
    fields = load(_embedding, name_run(json_body()))
    return begin_call(fields["run_id"], None), EmbeddingRequest.of(fields["input"])


@agents.get("/usage")
def usage() -> Response:
    """Tell what a run has spent, holds, and has left."""
    run_id = load(_usage, name_run(query_fields(request.args)), "query")["run_id"]
    return json_reply(usage_json(books_of(run_id)))


@agents.errorhandler(BudgetExhaustedError)
def answer_exhausted(error: BudgetExhaustedError) -> Response:
    """200 with the guide's text, which agents take as the sign to stop."""
    g.code = error.code
    return json_reply({"error": EXHAUSTED.format(_REFUSED[str(request.endpoint)])})


@agents.errorhandler(ModelNotSupportedError)
def answer_unsupported(error: ModelNotSupportedError) -> Response:
    """200 with the guide's text, which lists the models."""
    g.code = error.code
    return json_reply({"error": UNSUPPORTED_MODEL.format(error.model, error.supported)})


@agents.errorhandler(UpstreamError)
@agents.errorhandler(InternalError)
def answer_failure(error: ProxyError) -> Response:
    """500 with the guide's text, whatever failed upstream or here; the code tells what."""
    wanted = _WANTED.get(str(request.endpoint))
    return error_reply(error, status=InternalError.status, detail=wanted and FAILED.format(wanted))
