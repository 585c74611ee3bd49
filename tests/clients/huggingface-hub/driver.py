"""The client of Hugging Face, which shares no code with that of OpenAI and makes no retries."""

from collections.abc import Iterator
from typing import Any

from huggingface_hub import InferenceClient
from plain_chat import TOOLS, PlainChat, user
from serve import Ask, serve


def client_of(ask: Ask) -> InferenceClient:
    return InferenceClient(base_url=ask.base_url, api_key=ask.key, headers=ask.headers)


def complete(ask: Ask, messages: list[Any], **more: Any) -> Any:
    return client_of(ask).chat_completion(messages, model=ask.model, **more)


PLAIN = PlainChat(complete)


def chunks_of(ask: Ask, **more: Any) -> Iterator[Any]:
    """Yield the chunks of a stream, which ends with its client."""
    client = client_of(ask)
    yield from client.chat_completion([user(ask.prompt)], model=ask.model, stream=True, **more)


def stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": [chunk.choices[0].delta.content or "" for chunk in chunks_of(ask)]}


def usage(ask: Ask) -> dict[str, Any]:
    whole = complete(ask, [user(ask.prompt)])
    *_, last = chunks_of(ask, stream_options={"include_usage": True})
    return {"usage": [[each.usage.prompt_tokens, each.usage.completion_tokens] for each in (whole, last)]}


def parallel_tools(ask: Ask) -> dict[str, Any]:
    """Join the pieces of the calls: this client has no function for it."""
    chunks = chunks_of(ask, tools=TOOLS)
    return PLAIN.joined_tools(
        ask, (piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or [])
    )


def cancel(ask: Ask) -> dict[str, Any]:
    chunks = chunks_of(ask)
    next(chunks)
    chunks.close()
    return {}


serve(
    "huggingface_hub",
    chat=PLAIN.chat,
    stream=stream,
    usage=usage,
    tools=PLAIN.tools,
    parallel_tools=parallel_tools,
    structured=PLAIN.structured,
    echo=PLAIN.echo,
    cancel=cancel,
)
