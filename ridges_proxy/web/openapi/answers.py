"""JSON Schemas of the responses. The HTTP tests check every response against them."""

from __future__ import annotations

from typing import Any

from ridges_proxy.billing.windows import WINDOWS
from ridges_proxy.errors import BudgetExhaustedError, RunBusyError, UpstreamRejectedError
from ridges_proxy.ledger import Kind, RunState
from ridges_proxy.ledger.outcome import EndedBy
from ridges_proxy.web.model_list import PER_SECOND, PER_TOKENS
from ridges_proxy.web.responses_api.response_object import ECHOED

Schema = dict[str, Any]

USD: Schema = {"type": "number", "minimum": 0, "description": "USD, to the nano-dollar"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
FINISHED: Schema = {
    **FLAG,
    "description": "Whether the run is closed, its budget is spent, or a call was refused because the budget"
    " was exhausted. Such a run does not get its budget again when it is forgotten: it is remembered for"
    " RECEIPT_DAYS, or until a reset",
}
DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
TIME: Schema = {"type": "string", "format": "date-time"}


def record(**properties: Schema) -> Schema:
    """An object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def with_optional(shape: Schema, **properties: Schema) -> Schema:
    """The object, which may have these properties, too."""
    return {**shape, "properties": {**shape["properties"], **properties}}


def listed(item: Schema) -> Schema:
    """A list of items with this schema."""
    return {"type": "array", "items": item}


def or_null(schema: Schema) -> Schema:
    """The schema, with null allowed."""
    return {"anyOf": [schema, {"type": "null"}]}


def named(name: str) -> Schema:
    """A reference to a schema among the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


_USAGE = {
    "run_id": TEXT,
    "max_cost_usd": USD,
    "used_cost_usd": USD,
    "held_cost_usd": USD,
    "remaining_cost_usd": USD,
    "inference_cost_usd": USD,
    "embedding_cost_usd": USD,
    "calls": COUNT,
    "budgets": {
        **listed(named("BudgetLevel")),
        "description": "The budgets above the run in their present periods, with the calls of all runs",
    },
}

_BUDGET = {
    "budget": {**TEXT, "description": "Name of the budget; `run` is the run's own"},
    "scope": {**TEXT, "description": "The calls that share it: `all`, or such as `group:miner:1`"},
    "window": {"enum": [*WINDOWS]},
}
_RESETS_AT = {**TIME, "description": "End of the period"}

_LEVEL = {
    **_BUDGET,
    "period": TEXT,
    "resets_at": or_null(_RESETS_AT),
    "max_cost_usd": USD,
    "used_cost_usd": USD,
    "held_cost_usd": USD,
    "remaining_cost_usd": USD,
    "calls": COUNT,
}

_TOKENS = {"prompt_tokens": COUNT, "completion_tokens": COUNT}
"""As the upstream reported them."""

_COSTS = listed(record(model=TEXT, kind={"enum": [*Kind]}, calls=COUNT, **_TOKENS, cost_usd=USD))

_OUTCOME = {
    "groups": {**listed(TEXT), "description": "The groups of the run's last token"},
    "ended_by": {
        **or_null({"enum": [*EndedBy]}),
        "description": "closed: by an operator; budget: it is spent, or a call was refused because it was"
        " exhausted; in receipts also expired (after the end of its token) and idle. Null: the run may go on",
    },
    "first_call_at": or_null(TIME),
    "last_call_at": or_null(TIME),
    "refused": {
        "type": "object",
        "additionalProperties": COUNT,
        "description": "Refused calls by the code of their error",
    },
    "prompt_tokens": or_null(COUNT),
    "completion_tokens": or_null(COUNT),
    "costs": {
        **_COSTS,
        "description": "By model and kind, the largest first. Empty in a list of runs: there the times and"
        " the tokens are null, too",
    },
}

_CONFIGURED = {
    "name": TEXT,
    "usd": {**or_null(USD), "description": "The amount in BUDGETS; null if it no longer has the budget"},
    "usd_in_force": {**or_null(USD), "description": "For all scopes that have no amount of their own"},
    "set_amounts": {
        **listed(record(scope=or_null(TEXT), usd=USD)),
        "description": "Amounts that operators have set; scope null: for the whole budget",
    },
    "window": or_null({"enum": [*WINDOWS]}),
    "zone": or_null(TEXT),
    "group": or_null(TEXT),
    "model": or_null(TEXT),
    "kind": or_null({"enum": [*Kind]}),
    "match": {**or_null(TEXT), "description": "The scope of its levels; * stands for the text of a group"},
    "period": or_null(TEXT),
    "resets_at": or_null(TIME),
}

_LEVEL_PAGE = {"levels": listed(named("Level")), "total": COUNT, "offset": COUNT, "limit": COUNT}

_REFUSAL = {
    **record(error=TEXT),
    "description": "A refusal. Agents stop, or choose another model",
}

SCHEMAS: dict[str, Schema] = {
    "BudgetLevel": record(**_LEVEL),
    "Usage": record(**_USAGE),
    "OwnUsage": record(
        **_USAGE,
        **_TOKENS,
        costs={**_COSTS, "description": "By model and kind, the largest first"},
    ),
    "Run": record(
        **_USAGE,
        in_flight=COUNT,
        idle_seconds={"type": "number"},
        closed=FLAG,
        finished=FINISHED,
        **_OUTCOME,
    ),
    "RunPage": record(
        runs=listed(named("Run")),
        total=COUNT,
        counts={
            **record(**dict.fromkeys(("all", *(state.value for state in RunState)), COUNT)),
            "description": "Runs that match the query in all but its state: all, and those in each state",
        },
        offset=COUNT,
        limit=COUNT,
    ),
    "Token": record(
        run_id=TEXT,
        token=TEXT,
        expires_at=TIME,
        budget_usd=or_null(USD),
        models=or_null(listed(TEXT)),
        calls_per_minute=or_null(COUNT),
        groups=listed(TEXT),
        reserve_final_usd=USD,
        unpriced_models=listed(TEXT),
    ),
    "Receipt": record(
        run_id=TEXT,
        forgotten_at=TIME,
        last_active_at=TIME,
        used_cost_usd=USD,
        inference_cost_usd=USD,
        embedding_cost_usd=USD,
        max_cost_usd=USD,
        calls=COUNT,
        closed=FLAG,
        finished=FINISHED,
        **_OUTCOME,
    ),
    "ReceiptPage": record(receipts=listed(named("Receipt")), next=or_null(TEXT)),
    "Level": record(**_LEVEL, in_flight=COUNT),
    "Budget": record(**_CONFIGURED),
    "BudgetWithLevels": record(**_CONFIGURED, **_LEVEL_PAGE),
    "BudgetPage": record(budgets=listed(named("Budget")), **_LEVEL_PAGE),
    "BudgetReset": record(budget=TEXT, levels=listed(named("Level"))),
    "Sweep": record(forgotten_runs=COUNT, overdue_holds=COUNT, seconds={"type": "number"}),
    "SessionList": record(
        sessions=listed(record(id=TEXT, address=TEXT, signed_in_at=TIME, expires_at=TIME)),
    ),
    "SessionsEnded": record(ended=COUNT),
    "RunningSettings": record(
        version=TEXT,
        began_at=TIME,
        accepted_at=TIME,
        reloads={**COUNT, "description": "Reloads since the start, accepted or refused"},
        problems={**listed(TEXT), "description": "Why the last reload was refused; empty if it was accepted"},
        workers=listed(record(pid=COUNT, began_at=TIME, current=FLAG)),
        digest={**DIGEST, "description": "Over all settings"},
        settings={"type": "object", "additionalProperties": DIGEST},
    ),
    "Start": with_optional(
        record(service={"const": "ridges-ai-proxy"}, docs=TEXT, openapi=TEXT), dashboard=TEXT
    ),
    "Health": record(status={"const": "healthy"}, service={"const": "ridges-ai-proxy"}),
    "Ready": record(
        status={"enum": ["ready", "not_ready"]},
        ledger=record(answers=FLAG),
        sweeper=record(
            running=FLAG, last_sweep_seconds_ago=or_null({"type": "number"}), last_error=or_null(TEXT)
        ),
        draining=FLAG,
        upstream=record(down={**listed(TEXT), "description": "Models whose circuit breaker is open"}),
        calls=record(in_flight=COUNT, waiting=COUNT, settled_above_hold=COUNT),
        degraded={
            "type": "object",
            "additionalProperties": TEXT,
            "description": "What the workers do not share (for example metrics), and why. Calls work.",
        },
    ),
    "Inference": {"anyOf": [{**TEXT, "description": "The complete answer"}, _REFUSAL]},
    "AgentsEmbedding": {
        "description": "The embed chute's JSON, unchanged: usually a list with one list of 1,024 numbers."
        ' Or `{"error": …}`, a refusal: agents stop.',
        "examples": [[[0.25, -0.5]]],
    },
    "PlatformInference": {
        "anyOf": [
            {**TEXT, "description": "With `run_id`: the complete answer"},
            record(
                content=TEXT,
                tool_calls=listed(record(name=TEXT, arguments=listed(record(name=TEXT, value={})))),
            ),
        ],
    },
    "PlatformEmbedding": {
        "description": "With `run_id`: the embed chute's JSON, unchanged. With `evaluation_run_id`:"
        ' `{"embedding": […]}`',
        "examples": [[[0.25, -0.5]], {"embedding": [0.25, -0.5]}],
    },
    "PlatformUsage": {
        "anyOf": [
            named("Usage"),
            record(used_cost_usd=USD, remaining_cost_usd=USD, max_cost_usd=USD, budgets=_USAGE["budgets"]),
        ],
    },
    "TotalUsage": record(
        evaluation_run_id=TEXT,
        total_cost_usd=USD,
        budget_remaining_usd=USD,
        requests=COUNT,
        **_TOKENS,
        models=listed(TEXT),
        budgets=_USAGE["budgets"],
    ),
    "Model": with_optional(
        record(
            id=TEXT,
            object={"const": "model"},
            created=COUNT,
            owned_by=TEXT,
            pricing={
                "type": "object",
                "additionalProperties": {"type": "number"},
                "description": "USD per million tokens (prompt, completion, input_cache_read), or per second",
            },
            pricing_unit={"enum": [PER_TOKENS, PER_SECOND]},
        ),
        context_length={
            **COUNT,
            "description": "Tokens of a prompt and its answer, if MODEL_PRICES or the upstream names them",
        },
    ),
    "ModelList": record(object={"const": "list"}, data=listed(named("Model"))),
    "ChatCompletion": {"type": "object", "description": "The upstream's JSON, unchanged, in OpenAI's form"},
    "Response": record(
        id=TEXT,
        object={"const": "response"},
        created_at=COUNT,
        status={"enum": ["completed", "incomplete"]},
        error={"type": "null"},
        incomplete_details=or_null(record(reason={"enum": ["max_output_tokens", "content_filter"]})),
        output={**listed({"type": "object"}), "description": "Items: reasoning, message, function_call"},
        usage=or_null(
            with_optional(
                record(
                    input_tokens=COUNT,
                    input_tokens_details=record(cached_tokens=COUNT, cache_write_tokens=COUNT),
                    output_tokens=COUNT,
                    output_tokens_details=record(reasoning_tokens=COUNT),
                    total_tokens=COUNT,
                ),
                cost=USD,
            )
        ),
        **{name: {"description": "As in the request"} for name in ECHOED},
        background={"const": False},
        max_tool_calls={"type": "null"},
        model=TEXT,
        previous_response_id={"type": "null"},
        reasoning={"type": "object"},
        store={"const": False},
        text={"type": "object"},
        truncation={"const": "disabled"},
    ),
    "Estimate": record(
        model=or_null(TEXT),
        admitted=FLAG,
        code=or_null(TEXT),
        message=or_null(TEXT),
        **{name: or_null(shape) for name, shape in _BUDGET.items()},
        resets_at=or_null(_RESETS_AT),
        hold_cost_usd=USD,
        most_cost_usd=USD,
        least_cost_usd=USD,
        max_tokens=or_null(COUNT),
        waiting_calls={**COUNT, "description": "Calls of the run that wait for a hold, before this one"},
        **_USAGE,
    ),
    "EmbeddingList": record(
        object={"const": "list"},
        model=TEXT,
        data=listed(
            record(
                object={"const": "embedding"},
                index=COUNT,
                embedding={
                    "anyOf": [
                        listed({"type": "number"}),
                        {**TEXT, "description": "base64 of little-endian 32-bit floats"},
                    ]
                },
            )
        ),
        usage=with_optional(record(prompt_tokens=COUNT, total_tokens=COUNT), cost=USD),
    ),
    "Problem": record(loc=listed({"type": ["string", "integer"]}), msg=TEXT, type=TEXT),
}


def agents_error(codes: list[str]) -> Schema:
    """An error on all routes outside `/v1` and `/api/v1`."""
    detail = {"anyOf": [TEXT, listed(named("Problem"))]}
    hint = {**TEXT, "description": "What to correct. Only in some errors"}
    shape = record(detail=detail, code={"enum": codes}, request_id=TEXT)
    return _with_refusal(with_optional(shape, hint=hint), codes)


def openai_error(codes: list[str]) -> Schema:
    """An error on `/v1`, in OpenAI's form."""
    code: Schema = {"enum": codes}
    if UpstreamRejectedError.code in codes:
        code = {"anyOf": [code, {**TEXT, "description": "The upstream's own code for a request it rejects"}]}
    error = record(message=TEXT, type=TEXT, param=or_null(TEXT), code=code)
    return record(error=_with_refusal(error, codes), request_id=TEXT)


def openrouter_error(codes: list[str]) -> Schema:
    """An error on `/api/v1`, in OpenRouter's form: its code is the status, and the metadata has the code."""
    body = openai_error(codes)
    error = body["properties"]["error"]
    own_code = error["properties"]["code"]
    fields = {"code": COUNT, "metadata": record(code=own_code)}
    shape = {
        **error,
        "properties": {**error["properties"], **fields},
        "required": [*error["required"], "metadata"],
    }
    return record(error=shape, request_id=TEXT)


def _with_refusal(error: Schema, codes: list[str]) -> Schema:
    """The error, with the fields that it has if a budget refuses."""
    if codes == [BudgetExhaustedError.code]:
        fields = {**_BUDGET, "resets_at": or_null(_RESETS_AT)}
        return {**with_optional(error, **fields), "required": [*error["required"], *fields]}
    if BudgetExhaustedError.code in codes:
        return with_optional(error, **_BUDGET, resets_at=or_null(_RESETS_AT))
    if RunBusyError.code in codes:
        return with_optional(error, window=_BUDGET["window"], resets_at=_RESETS_AT)
    return error
