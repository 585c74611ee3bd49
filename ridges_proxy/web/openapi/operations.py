"""Table of all operations: request, response and possible errors of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ridges_proxy import errors
from ridges_proxy.web.schemas.agents import EmbeddingSchema, InferenceSchema, UsageSchema
from ridges_proxy.web.schemas.audit_query import AuditQuerySchema, TokenQuerySchema
from ridges_proxy.web.schemas.budget_query import (
    BudgetQuerySchema,
    LevelQuerySchema,
    ResetBudgetSchema,
    SetAmountSchema,
)
from ridges_proxy.web.schemas.chat import ChatSchema
from ridges_proxy.web.schemas.embeddings import EmbeddingsSchema
from ridges_proxy.web.schemas.open_call_query import OpenCallQuerySchema
from ridges_proxy.web.schemas.platform import LaterEmbeddingSchema, LaterInferenceSchema, LaterUsageSchema
from ridges_proxy.web.schemas.receipt_query import ReceiptQuerySchema
from ridges_proxy.web.schemas.response_request import ResponsesSchema
from ridges_proxy.web.schemas.run_query import RunQuerySchema
from ridges_proxy.web.schemas.run_token import IssueSchema
from ridges_proxy.web.schemas.usage_query import UsageQuerySchema

if TYPE_CHECKING:
    from ridges_proxy.errors import ProxyError
    from ridges_proxy.web.schemas.request_schema import RequestSchema

    Kinds = tuple[type[ProxyError], ...]

AGENTS, PLATFORM, OPENAI = "agents", "platform", "openai"
OPERATORS, MONITORS = "operators", "monitors"
"""The surfaces of the API, each for one kind of caller."""


def with_subclasses(kind: type[ProxyError]) -> list[type[ProxyError]]:
    """The error class and all its subclasses."""
    return [kind, *(each for child in kind.__subclasses__() for each in with_subclasses(child))]


_BODY: Kinds = (
    errors.InvalidRequestError,
    errors.BodyTruncatedError,
    errors.BodyTimeoutError,
    errors.BodyTooLargeError,
    errors.BodyTooComplexError,
    errors.BodyCompressedError,
)
_CALL_BODY: Kinds = (*_BODY, errors.RefusedBytesError, errors.BodyQueueError)
_CALLER: Kinds = (
    errors.InvalidApiKeyError,
    errors.AddressNotAllowedError,
    errors.AddressLimitedError,
    errors.LedgerUnavailableError,
    errors.InternalError,
)
_OPERATOR: Kinds = (
    errors.InvalidApiKeyError,
    errors.AddressLimitedError,
    errors.LedgerUnavailableError,
    errors.InternalError,
)
_SPENDING: Kinds = (
    *_CALL_BODY,
    *_CALLER,
    errors.RunNotAllowedError,
    errors.RunClosedError,
    errors.BudgetExhaustedError,
    errors.RunBusyError,
    errors.TooManyInFlightError,
    errors.RateLimitedError,
    errors.OverloadedError,
    errors.UpstreamDownError,
    errors.DrainedError,
    errors.ModelNotSupportedError,
    *with_subclasses(errors.UpstreamError),
)
_READING: Kinds = (errors.InvalidRequestError, *_CALLER, errors.RunNotAllowedError)

EVENT_STREAM = "text/event-stream"
_EVENTS = {EVENT_STREAM: "With `stream: true`: the events, then `data: [DONE]`"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    """In the document's form: `{run_id}` where Flask has `<text:run_id>`."""
    endpoint: str
    """Name of the view. Its docstring becomes the operation's description."""
    surface: str
    answer: str
    """Name of the response's schema, empty if the response is not JSON."""
    errors: Kinds = ()
    body: type[RequestSchema] | None = None
    may_be_empty: bool = False
    """Whether the body may be absent."""
    query: type[RequestSchema] | None = None
    later: type[RequestSchema] | None = None
    """Another form of the body or query, which the platform's later agents send."""
    media: dict[str, str] = field(default_factory=dict)
    """Descriptions of the other media types of a 200."""
    also: dict[int, str] = field(default_factory=dict)
    """Names of the schemas of other statuses that are not errors."""


OPERATIONS = (
    Operation(
        "POST", "/agents/inference", "agents.inference", AGENTS, "Inference", _SPENDING, InferenceSchema
    ),
    Operation(
        "POST", "/agents/embedding", "agents.embedding", AGENTS, "AgentsEmbedding", _SPENDING, EmbeddingSchema
    ),
    Operation(
        "GET",
        "/agents/usage",
        "agents.usage",
        AGENTS,
        "Usage",
        _READING,
        query=UsageSchema,
    ),
    Operation(
        "POST",
        "/v1/chat/completions",
        "v1.chat_completions",
        OPENAI,
        "ChatCompletion",
        _SPENDING,
        ChatSchema,
        media=_EVENTS,
    ),
    Operation(
        "POST",
        "/v1/responses",
        "responses.create_response",
        OPENAI,
        "Response",
        _SPENDING,
        ResponsesSchema,
        media={EVENT_STREAM: "With `stream: true`: the events of a response, the last one has all of it"},
    ),
    Operation(
        "POST",
        "/v1/estimate",
        "v1.estimate",
        OPENAI,
        "Estimate",
        (
            *_CALL_BODY,
            *_CALLER,
            errors.RunNotAllowedError,
            errors.RunClosedError,
            errors.ModelNotSupportedError,
        ),
        ChatSchema,
    ),
    Operation(
        "POST", "/v1/embeddings", "v1.embeddings", OPENAI, "EmbeddingList", _SPENDING, EmbeddingsSchema
    ),
    Operation(
        "GET",
        "/v1/usage",
        "v1.usage",
        OPENAI,
        "OwnUsage",
        _READING,
        query=UsageQuerySchema,
    ),
    Operation("GET", "/v1/models", "v1.list_models", OPENAI, "ModelList", _CALLER),
    Operation(
        "GET",
        "/v1/models/{name}",
        "v1.show_model",
        OPENAI,
        "Model",
        (*_CALLER, errors.ModelNotSupportedError),
    ),
    Operation(
        "POST",
        "/api/inference",
        "platform.inference",
        PLATFORM,
        "PlatformInference",
        _SPENDING,
        InferenceSchema,
        later=LaterInferenceSchema,
    ),
    Operation(
        "POST",
        "/api/embedding",
        "platform.embedding",
        PLATFORM,
        "PlatformEmbedding",
        _SPENDING,
        EmbeddingSchema,
        later=LaterEmbeddingSchema,
    ),
    Operation(
        "GET",
        "/api/usage",
        "platform.usage",
        PLATFORM,
        "PlatformUsage",
        _READING,
        query=UsageSchema,
        later=LaterUsageSchema,
    ),
    Operation(
        "POST",
        "/api/v1/chat/completions",
        "platform_v1.chat_completions",
        OPENAI,
        "ChatCompletion",
        _SPENDING,
        ChatSchema,
        media=_EVENTS,
    ),
    Operation(
        "POST",
        "/api/v1/embeddings",
        "platform_v1.embeddings",
        OPENAI,
        "EmbeddingList",
        _SPENDING,
        EmbeddingsSchema,
    ),
    Operation("GET", "/api/v1/models", "platform_v1.list_models", OPENAI, "ModelList", _CALLER),
    Operation(
        "GET",
        "/api/v1/models/{name}",
        "platform_v1.show_model",
        OPENAI,
        "Model",
        (*_CALLER, errors.ModelNotSupportedError),
    ),
    Operation(
        "GET",
        "/api/v1/usage",
        "platform_v1.total_usage",
        OPENAI,
        "TotalUsage",
        _READING,
        query=UsageQuerySchema,
    ),
    Operation("GET", "/", "health.start", MONITORS, "Start"),
    Operation("GET", "/health", "health.alive", MONITORS, "Health"),
    Operation("GET", "/ready", "health.ready", MONITORS, "Ready", also={503: "Ready"}),
)

ADMIN_OPERATIONS = (
    Operation(
        "GET",
        "/admin/runs",
        "admin.list_runs",
        OPERATORS,
        "RunPage",
        (errors.InvalidRequestError, *_OPERATOR),
        query=RunQuerySchema,
    ),
    Operation(
        "POST",
        "/admin/runs",
        "admin.issue_token",
        OPERATORS,
        "Token",
        (*_BODY, *_OPERATOR, errors.TokensNotIssuedError, errors.RunClosedError),
        IssueSchema,
    ),
    Operation(
        "GET",
        "/admin/runs/{run_id}",
        "admin.show_run",
        OPERATORS,
        "Run",
        (*_OPERATOR, errors.RunNotFoundError),
    ),
    Operation(
        "POST",
        "/admin/runs/{run_id}/reset",
        "admin.reset_run",
        OPERATORS,
        "Run",
        (*_OPERATOR, errors.RunNotFoundError),
    ),
    Operation("POST", "/admin/runs/{run_id}/close", "admin.close_run", OPERATORS, "Run", _OPERATOR),
    Operation(
        "GET",
        "/admin/calls",
        "admin_calls.list_calls",
        OPERATORS,
        "OpenCallPage",
        (errors.InvalidRequestError, *_OPERATOR),
        query=OpenCallQuerySchema,
    ),
    Operation(
        "GET",
        "/admin/budgets",
        "admin_budgets.list_budgets",
        OPERATORS,
        "BudgetPage",
        (errors.InvalidRequestError, *_OPERATOR),
        query=BudgetQuerySchema,
    ),
    Operation(
        "GET",
        "/admin/budgets/{budget}",
        "admin_budgets.show_budget",
        OPERATORS,
        "BudgetWithLevels",
        (errors.InvalidRequestError, *_OPERATOR, errors.BudgetNotFoundError),
        query=LevelQuerySchema,
    ),
    Operation(
        "POST",
        "/admin/budgets/{budget}/amount",
        "admin_budgets.set_amount",
        OPERATORS,
        "Budget",
        (*_BODY, *_OPERATOR, errors.BudgetNotFoundError),
        SetAmountSchema,
    ),
    Operation(
        "POST",
        "/admin/budgets/{budget}/reset",
        "admin_budgets.reset_budget",
        OPERATORS,
        "BudgetReset",
        (*_BODY, *_OPERATOR, errors.BudgetNotFoundError),
        ResetBudgetSchema,
        may_be_empty=True,
    ),
    Operation("POST", "/admin/sweep", "admin.sweep", OPERATORS, "Sweep", _OPERATOR),
    Operation(
        "GET",
        "/admin/receipts",
        "admin.list_receipts",
        OPERATORS,
        "ReceiptPage",
        (errors.InvalidRequestError, *_OPERATOR),
        query=ReceiptQuerySchema,
    ),
    Operation(
        "GET",
        "/admin/audit",
        "admin_audit.list_entries",
        OPERATORS,
        "AuditPage",
        (errors.InvalidRequestError, *_OPERATOR),
        query=AuditQuerySchema,
    ),
    Operation(
        "GET",
        "/admin/tokens",
        "admin_audit.list_tokens",
        OPERATORS,
        "IssuedTokenPage",
        (errors.InvalidRequestError, *_OPERATOR),
        query=TokenQuerySchema,
    ),
    Operation("GET", "/admin/settings", "admin.show_settings", OPERATORS, "RunningSettings", _OPERATOR),
    Operation("GET", "/admin/sessions", "admin.list_sessions", OPERATORS, "SessionList", _OPERATOR),
    Operation("POST", "/admin/sessions/end", "admin.end_sessions", OPERATORS, "SessionsEnded", _OPERATOR),
    Operation(
        "POST",
        "/admin/sessions/{session_id}/end",
        "admin.end_session",
        OPERATORS,
        "SessionsEnded",
        _OPERATOR,
    ),
    Operation(
        "GET",
        "/metrics",
        "metrics.scrape",
        OPERATORS,
        "",
        _OPERATOR,
        media={"text/plain": "Prometheus' text format"},
    ),
)
"""Operations that exist only if ADMIN_API_KEY is set."""
