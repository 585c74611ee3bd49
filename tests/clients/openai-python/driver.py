"""OpenAI's SDK for Python."""

import json
from typing import Any

import openai
from openai import OpenAI
from pydantic import BaseModel
from serve import Ask, serve


class Found(BaseModel):
    call: int
    text: str


TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": name, "parameters": Found.model_json_schema(), "strict": False},
    }
    for name in ("look", "search")
]


def client_of(ask: Ask) -> OpenAI:
    retries = openai.DEFAULT_MAX_RETRIES if ask.retries is None else ask.retries
    return OpenAI(base_url=ask.base_url, api_key=ask.key, default_headers=ask.headers, max_retries=retries)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def chat(ask: Ask) -> dict[str, Any]:
    answer = client_of(ask).chat.completions.create(model=ask.model, messages=[user(ask.prompt)])
    return {"text": answer.choices[0].message.content}


def stream(ask: Ask) -> dict[str, Any]:
    events = client_of(ask).chat.completions.create(model=ask.model, messages=[user(ask.prompt)], stream=True)
    return {"pieces": [event.choices[0].delta.content or "" for event in events]}


def usage(ask: Ask) -> dict[str, Any]:
    create, messages = client_of(ask).chat.completions.create, [user(ask.prompt)]
    whole = create(model=ask.model, messages=messages)
    *_, last = create(model=ask.model, messages=messages, stream=True, stream_options={"include_usage": True})
    return {"usage": [[each.usage.prompt_tokens, each.usage.completion_tokens] for each in (whole, last)]}


def with_results(ask: Ask, message: Any) -> dict[str, Any]:
    """Send the client's own message object back, with a result for each of its calls."""
    calls = message.tool_calls or []
    results = [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in calls]
    answer = client_of(ask).chat.completions.create(
        model=ask.model, messages=[user(ask.prompt), message, *results], tools=TOOLS
    )
    called = [[call.function.name, json.loads(call.function.arguments)] for call in calls]
    return {"calls": called, "text": answer.choices[0].message.content}


def tools(ask: Ask) -> dict[str, Any]:
    first = client_of(ask).chat.completions.create(
        model=ask.model, messages=[user(ask.prompt)], tools=TOOLS, tool_choice="auto"
    )
    return with_results(ask, first.choices[0].message)


def parallel_tools(ask: Ask) -> dict[str, Any]:
    with client_of(ask).chat.completions.stream(
        model=ask.model, messages=[user(ask.prompt)], tools=TOOLS, parallel_tool_calls=True
    ) as events:
        first = events.get_final_completion()
    return with_results(ask, first.choices[0].message)


def structured(ask: Ask) -> dict[str, Any]:
    answer = client_of(ask).chat.completions.parse(
        model=ask.model, messages=[user(ask.prompt)], response_format=Found
    )
    return {"value": answer.choices[0].message.parsed.model_dump()}


def echo(ask: Ask) -> dict[str, Any]:
    """Send back a message of `.parse()` and one of `.stream()`: each is a class of its own."""
    client = client_of(ask)
    first = client.chat.completions.parse(model=ask.model, messages=[user(ask.prompt)])
    messages: Any = [user(ask.prompt), first.choices[0].message, user("go on")]
    with client.chat.completions.stream(model=ask.model, messages=messages) as events:
        second = events.get_final_completion()
    messages += [second.choices[0].message, user("go on")]
    third = client.chat.completions.create(model=ask.model, messages=messages)
    return {"text": third.choices[0].message.content}


def embeddings(ask: Ask) -> dict[str, Any]:
    answer = client_of(ask).embeddings.create(model=ask.embedding_model, input=["one", "two"])
    return {"sizes": [len(each.embedding) for each in answer.data]}


def cancel(ask: Ask) -> dict[str, Any]:
    with client_of(ask).chat.completions.create(
        model=ask.model, messages=[user(ask.prompt)], stream=True
    ) as events:
        next(iter(events))
    return {}


def responses(ask: Ask) -> dict[str, Any]:
    """Two turns with tools: the items of the first are sent back, because nothing is stored."""
    client = client_of(ask)
    functions: Any = [{"type": "function", **tool["function"]} for tool in TOOLS]
    first = client.responses.create(model=ask.model, input=ask.prompt, tools=functions, store=False)
    calls = [item for item in first.output if item.type == "function_call"]
    results: Any = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "done"} for call in calls
    ]
    turn: Any = [{"role": "user", "content": ask.prompt}, *first.output, *results]
    second = client.responses.create(model=ask.model, input=turn, tools=functions, store=False)
    return {"calls": [[call.name, json.loads(call.arguments)] for call in calls], "text": second.output_text}


def responses_stream(ask: Ask) -> dict[str, Any]:
    with client_of(ask).responses.stream(model=ask.model, input=ask.prompt) as events:
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        final = events.get_final_response()
    assert final.output_text == "".join(pieces)
    return {"pieces": pieces}


serve(
    "openai",
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
