"""The client of Hugging Face, which shares no code with that of OpenAI and makes no retries."""

import json
from collections.abc import Iterator
from typing import Any

from huggingface_hub import InferenceClient
from serve import Ask, serve

SCHEMA = {
    "type": "object",
    "properties": {"call": {"type": "integer"}, "text": {"type": "string"}},
    "required": ["call", "text"],
}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("look", "search")
]


def client_of(ask: Ask) -> InferenceClient:
    return InferenceClient(base_url=ask.base_url, api_key=ask.key, headers=ask.headers)


def complete(ask: Ask, messages: list[Any], **more: Any) -> Any:
    return client_of(ask).chat_completion(messages, model=ask.model, **more)


def chunks_of(ask: Ask, **more: Any) -> Iterator[Any]:
    """Yield the chunks of a stream, which ends with its client."""
    client = client_of(ask)
    yield from client.chat_completion([user(ask.prompt)], model=ask.model, stream=True, **more)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def chat(ask: Ask) -> dict[str, Any]:
    return {"text": complete(ask, [user(ask.prompt)]).choices[0].message.content}


def stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": [chunk.choices[0].delta.content or "" for chunk in chunks_of(ask)]}


def usage(ask: Ask) -> dict[str, Any]:
    whole = complete(ask, [user(ask.prompt)])
    *_, last = chunks_of(ask, stream_options={"include_usage": True})
    return {"usage": [[each.usage.prompt_tokens, each.usage.completion_tokens] for each in (whole, last)]}


def with_results(ask: Ask, message: Any, calls: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Send the message back, with a result for each of its calls: an id, a name and arguments."""
    results = [{"role": "tool", "tool_call_id": number, "content": "done"} for number, _, _ in calls]
    answer = complete(ask, [user(ask.prompt), message, *results], tools=TOOLS)
    called = [[name, json.loads(arguments)] for _, name, arguments in calls]
    return {"calls": called, "text": answer.choices[0].message.content}


def tools(ask: Ask) -> dict[str, Any]:
    message = complete(ask, [user(ask.prompt)], tools=TOOLS).choices[0].message
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
    return with_results(ask, message, calls)


def parallel_tools(ask: Ask) -> dict[str, Any]:
    """Join the pieces of the calls: this client has no function for it."""
    calls: dict[int, list[str]] = {}
    for chunk in chunks_of(ask, tools=TOOLS):
        for piece in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(piece.index, [piece.id, piece.function.name, ""])
            call[2] += piece.function.arguments
    called = [
        {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, name, arguments in calls.values()
    ]
    message = {"role": "assistant", "content": None, "tool_calls": called}
    return with_results(ask, message, [(number, name, text) for number, name, text in calls.values()])


def structured(ask: Ask) -> dict[str, Any]:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "found", "schema": SCHEMA, "strict": True}}
    answer = complete(ask, [user(ask.prompt)], response_format=schema)
    return {"value": json.loads(answer.choices[0].message.content)}


def echo(ask: Ask) -> dict[str, Any]:
    first = complete(ask, [user(ask.prompt)]).choices[0].message
    return {"text": complete(ask, [user(ask.prompt), first, user("go on")]).choices[0].message.content}


def cancel(ask: Ask) -> dict[str, Any]:
    chunks = chunks_of(ask)
    next(chunks)
    chunks.close()
    return {}


serve(
    "huggingface_hub",
    chat=chat,
    stream=stream,
    usage=usage,
    tools=tools,
    parallel_tools=parallel_tools,
    structured=structured,
    echo=echo,
    cancel=cancel,
)
