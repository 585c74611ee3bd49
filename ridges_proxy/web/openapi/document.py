"""The OpenAPI 3.1 document, built with apispec from the request schemas and the table of operations."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from ridges_proxy.errors import (
    BudgetExhaustedError,
    InternalError,
    InvalidRequestError,
    ModelNotSupportedError,
    RefusedError,
    UpstreamError,
)
from ridges_proxy.web.call_headers import FINAL_CALL, MAX_MIN_TOKENS, MIN_TOKENS
from ridges_proxy.web.openapi import answers, audit_answers, open_call_answers
from ridges_proxy.web.openapi.operations import (
    ADMIN_OPERATIONS,
    AGENTS,
    EVENT_STREAM,
    MONITORS,
    OPENAI,
    OPERATIONS,
    OPERATORS,
    PLATFORM,
    Operation,
)
from ridges_proxy.web.openrouter import OPENROUTER_PATH
from ridges_proxy.web.schemas.chat_messages import Message, Part
from ridges_proxy.web.schemas.field_table import ASSISTANT_PART_TYPES, RESPONSE_ASSISTANT_PART_TYPES
from ridges_proxy.web.schemas.response_items import InputItem, InputPart
from ridges_proxy.web.schemas.response_tools import ResponseTool, ToolChoice
from ridges_proxy.web.schemas.run_token import IssueSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ridges_proxy.errors import ProxyError
    from ridges_proxy.web.schemas.request_schema import RequestSchema

JSON = "application/json"

TAGS = {
    AGENTS: "Agents: the contract of the agents in use",
    PLATFORM: "Agents: the contracts of the platform's later gateways",
    OPENAI: "Clients of OpenAI's API",
    OPERATORS: "Operators, with ADMIN_API_KEY",
    MONITORS: "Monitors, without a key",
}

ABOUT = (
    "A metering proxy for the Chutes LLM API: a run never costs more than its budget. Every response has"
    " `X-Request-ID`. Every response to a call that has a cost, or that the budget does not pay for, has"
    " `X-Run-Cost-USD`, `X-Run-Remaining-USD` and `X-Run-Budget-State`: `ok`, `low` (less than 20 % of a"
    " budget remains) or `final` (the next call like it would not fit). 429 and 503 have `Retry-After`,"
    " except `budget_exhausted`, which is final. A path that does not exist is 404, `not_found`. Another"
    " method is 405, `method_not_allowed`."
)

NAMED_TYPES = (
    *(Message(), Part(), Part(ASSISTANT_PART_TYPES)),
    *(InputItem(), InputPart(), InputPart(RESPONSE_ASSISTANT_PART_TYPES)),
    *(ResponseTool(), ToolChoice()),
)
"""Types of values that the schemas of requests refer to by name."""

_CALL_HEADERS = [
    {
        "name": FINAL_CALL,
        "in": "header",
        "required": False,
        "description": "1: the call may use what the run token keeps of the budget for a final call.",
        "schema": {"enum": ["0", "1"]},
    },
    {
        "name": MIN_TOKENS,
        "in": "header",
        "required": False,
        "description": (
            "The fewest tokens to which max_tokens may be cut: a smaller remaining budget refuses the call."
            " It does not change an embedding."
        ),
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_MIN_TOKENS},
    },
]
"""Headers of every call that is paid, and of its estimate."""

_RUN_HEADER = {
    "name": "X-Run-Id",
    "in": "header",
    "required": False,
    "description": "The run, if neither the body nor a run token names it.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
}


def document(views: Mapping[str, Callable[..., Any]], *, has_admin: bool) -> dict[str, Any]:
    """The complete document. `views` are the app's view functions by endpoint."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name_of)
    spec = APISpec(
        "Ridges AI Proxy", version("ridges-proxy"), "3.1.0", info={"description": ABOUT}, plugins=[plugin]
    )
    types = {str(value.component): value.json_schema for value in NAMED_TYPES}
    for name, shape in {
        **answers.SCHEMAS,
        **audit_answers.SCHEMAS,
        **open_call_answers.SCHEMAS,
        **types,
    }.items():
        spec.components.schema(name, shape)
    for name, text in {"caller": "PROXY_API_KEY, or a run token", "operator": "ADMIN_API_KEY"}.items():
        spec.components.security_scheme(name, {"type": "http", "scheme": "bearer", "description": text})
    for name, text in TAGS.items():
        spec.tag({"name": name, "description": text})
    for operation in (*OPERATIONS, *(ADMIN_OPERATIONS if has_admin else ())):
        for body in _forms(operation.body, operation.later):
            if _name_of(body) not in spec.components.schemas:
                spec.components.schema(_name_of(body), _request_schema(plugin, body()))
        text = inspect.getdoc(views[operation.endpoint]) or ""
        spec.path(operation.path, operations={operation.method.lower(): _described(plugin, operation, text)})
    return {**spec.to_dict(), "servers": [{"url": "/"}]}


def _described(plugin: MarshmallowPlugin, operation: Operation, text: str) -> dict[str, Any]:
    summary, _, rest = text.partition("\n\n")
    described: dict[str, Any] = {
        "operationId": operation.endpoint.replace(".", "_"),
        "tags": [operation.surface],
        "summary": summary.removesuffix("."),
        "description": rest,
        "parameters": _parameters(plugin, operation),
        "responses": _responses(operation),
        "security": _security(operation.surface),
    }
    bodies = [answers.named(_name_of(body)) for body in _forms(operation.body, operation.later)]
    if bodies:
        content = {JSON: {"schema": bodies[0] if len(bodies) == 1 else {"anyOf": bodies}}}
        described["requestBody"] = {"required": not operation.may_be_empty, "content": content}
    return described


def _forms(first: type[RequestSchema] | None, later: type[RequestSchema] | None) -> list[type[RequestSchema]]:
    """The forms of a body or of a query, which has a later form only if it has a first one."""
    return [] if first is None else [first] if later is None else [first, later]


def _security(surface: str) -> list[dict[str, list[str]]]:
    if surface == MONITORS:
        return []
    return [{"operator" if surface == OPERATORS else "caller": []}]


def _parameters(plugin: MarshmallowPlugin, operation: Operation) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    for form in _forms(operation.query, operation.later):
        shape = _request_schema(plugin, form())
        required = shape.get("required", []) if form is operation.query else []
        found += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in shape["properties"].items()
        ]
    names_run = operation.surface in {AGENTS, PLATFORM, OPENAI} and (operation.body or operation.query)
    if not names_run:
        return found
    return [*found, _RUN_HEADER, *(_CALL_HEADERS if operation.body else ())]


def _responses(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {media: _text_schema(media) for media in operation.media}
    if operation.answer:
        content[JSON] = {"schema": answers.named(operation.answer)}
    description = "; ".join(operation.media.values()) or "Success"
    responses: dict[str, Any] = {"200": {"description": description, "content": content}}
    for status, name in operation.also.items():
        described = {
            "description": HTTPStatus(status).phrase,
            "content": {JSON: {"schema": answers.named(name)}},
        }
        responses[str(status)] = described
    error = _error_of(operation)
    for status, kinds in sorted(_by_status(operation).items()):
        codes = sorted({kind.code for kind in kinds})
        description = "; ".join(f"`{code}`" for code in codes)
        responses[str(status)] = {"description": description, "content": {JSON: {"schema": error(codes)}}}
    return responses


def _text_schema(media: str) -> dict[str, Any]:
    """The schema of a text. Of events there is none: OpenAPI 3.1 does not say whether it is that of each."""
    return {} if media == EVENT_STREAM else {"schema": {"type": "string"}}


def _error_of(operation: Operation) -> Callable[[list[str]], dict[str, Any]]:
    """The form of the operation's errors."""
    if operation.path.startswith(OPENROUTER_PATH):
        return answers.openrouter_error
    return answers.openai_error if operation.surface == OPENAI else answers.agents_error


def _by_status(operation: Operation) -> dict[int, list[type[ProxyError]]]:
    """The errors by the status that they have on the surface."""
    found: dict[int, list[type[ProxyError]]] = defaultdict(list)
    kinds: list[type[ProxyError]] = [RefusedError, *operation.errors]  # RefusedError: an invalid Host header
    for kind in kinds:
        if operation.surface == AGENTS:
            if issubclass(kind, BudgetExhaustedError | ModelNotSupportedError):
                continue  # a 200 with an `error`, which agents expect
            found[500 if issubclass(kind, UpstreamError | InternalError) else kind.status].append(kind)
        elif operation.surface == PLATFORM and issubclass(kind, BudgetExhaustedError):
            found[429].append(kind)
        elif operation.surface == OPENAI and issubclass(kind, InvalidRequestError):
            found[400].append(kind)
        else:
            found[kind.status].append(kind)
    return found


def _request_schema(plugin: MarshmallowPlugin, schema: RequestSchema) -> dict[str, Any]:
    """The JSON Schema of a request schema."""
    assert plugin.converter is not None  # noqa: S101 - the spec has set it
    shape: dict[str, Any] = plugin.converter.schema2jsonschema(schema)  # type: ignore[no-untyped-call] # apispec's
    for name, given in shape["properties"].items():
        field = next(each for key, each in schema.fields.items() if (each.data_key or key) == name)
        if field.allow_none and "type" not in given:  # apispec adds null only to a `type`
            shape["properties"][name] = answers.or_null(given)
    if "run_id" in shape["properties"] and not isinstance(schema, IssueSchema):
        run_id = {
            **shape["properties"]["run_id"],
            "description": "Required, unless X-Run-Id or a run token names the run.",
        }
        shape["properties"]["run_id"] = answers.or_null(run_id)
        shape["required"] = [name for name in shape["required"] if name != "run_id"]
    return schema.place.described(shape)


def _name_of(schema: Any) -> str:  # noqa: ANN401 - apispec passes a class or an instance
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema") + "Request"
