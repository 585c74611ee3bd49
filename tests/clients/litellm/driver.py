"""LiteLLM as a library."""

import json
from typing import Any

import litellm
from pydantic import BaseModel
from serve import Ask, serve


class Found(BaseModel):
    call: int
    text: str


TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": Found.model_json_schema()}}
    for name in ("look", "search")
]


def options_of(ask: Ask) -> dict[str, Any]:
    options: dict[str, Any] = {
        "model": f"openai/{ask.model}",
        "api_base": ask.base_url,
        "api_key": ask.key,
        "extra_headers": ask.headers,
    }
    return options if ask.retries is None else {**options, "max_retries": ask.retries}


def user(text: str) -> dict[str, Any]:
    """Return a message that is marked for a cache, as agents mark theirs for other providers."""
    part = {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
    return {"role": "user", "content": [part]}


def complete(ask: Ask, messages: list[Any], **more: Any) -> Any:
    return litellm.completion(messages=messages, **options_of(ask), **more)


def chat(ask: Ask) -> dict[str, Any]:
    answer = litellm.completion(messages=[{"role": "user", "content": ask.prompt}], **options_of(ask))
    return {"text": answer.choices[0].message.content}


def stream(ask: Ask) -> dict[str, Any]:
    chunks = complete(ask, [user(ask.prompt)], stream=True)
    return {"pieces": [chunk.choices[0].delta.content or "" for chunk in chunks]}


def usage(ask: Ask) -> dict[str, Any]:
    whole = complete(ask, [user(ask.prompt)])
    *_, last = complete(ask, [user(ask.prompt)], stream=True, stream_options={"include_usage": True})
    return {"usage": [[each.usage.prompt_tokens, each.usage.completion_tokens] for each in (whole, last)]}


def with_results(ask: Ask, message: Any) -> dict[str, Any]:
    """Send LiteLLM's own message back as a dictionary, with all the fields that it adds."""
    calls = message.tool_calls or []
    results = [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in calls]
    answer = complete(ask, [user(ask.prompt), message.model_dump(), *results], tools=TOOLS)
    called = [[call.function.name, json.loads(call.function.arguments)] for call in calls]
    return {"calls": called, "text": answer.choices[0].message.content}


def tools(ask: Ask) -> dict[str, Any]:
    return with_results(ask, complete(ask, [user(ask.prompt)], tools=TOOLS).choices[0].message)


def parallel_tools(ask: Ask) -> dict[str, Any]:
    chunks = list(complete(ask, [user(ask.prompt)], tools=TOOLS, stream=True, parallel_tool_calls=True))
    return with_results(ask, litellm.stream_chunk_builder(chunks).choices[0].message)


def structured(ask: Ask) -> dict[str, Any]:
    answer = complete(ask, [user(ask.prompt)], response_format=Found)
    return {"value": Found.model_validate_json(answer.choices[0].message.content).model_dump()}


def echo(ask: Ask) -> dict[str, Any]:
    first = complete(ask, [user(ask.prompt)]).choices[0].message
    answer = complete(ask, [user(ask.prompt), first, user("go on"), first.model_dump(), user("go on")])
    return {"text": answer.choices[0].message.content}


def embeddings(ask: Ask) -> dict[str, Any]:
    options = {**options_of(ask), "model": f"openai/{ask.embedding_model}"}
    answer = litellm.embedding(input=["one", "two"], **options)
    return {"sizes": [len(each["embedding"]) for each in answer.data]}


def cancel(ask: Ask) -> dict[str, Any]:
    chunks = complete(ask, [user(ask.prompt)], stream=True)
    next(chunks)
    chunks.completion_stream.close()
    return {}


def responses(ask: Ask) -> dict[str, Any]:
    functions = [{"type": "function", **tool["function"]} for tool in TOOLS]
    first = litellm.responses(input=ask.prompt, tools=functions, **options_of(ask))
    calls = [item for item in first.output if item.type == "function_call"]
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "done"} for call in calls]
    items = [item.model_dump() for item in first.output]
    turn = [{"role": "user", "content": ask.prompt}, *items, *results]
    second = litellm.responses(input=turn, tools=functions, **options_of(ask))
    called = [[call.name, json.loads(call.arguments)] for call in calls]
    return {"calls": called, "text": second.output_text}


def responses_stream(ask: Ask) -> dict[str, Any]:
    events = litellm.responses(input=ask.prompt, stream=True, **options_of(ask))
    return {"pieces": [event.delta for event in events if event.type == "response.output_text.delta"]}


serve(
    "litellm",
    chat=chat,
    stream=stream,
    usage=usage,
    tools=tools,
    parallel_tools=parallel_tools,
    structured=structured,
    echo=echo,
    embeddings=embeddings,
    cancel=cancel,
    responses=responses,
    responses_stream=responses_stream,
)
