"""OpenRouter's SDK, which the platform recommends to its agents, on `/api/v1`."""

from typing import Any

from openrouter import OpenRouter
from plain_chat import TOOLS, PlainChat, user
from serve import Ask, serve


def client_of(ask: Ask) -> OpenRouter:
    return OpenRouter(api_key=ask.key, server_url=ask.base_url.removesuffix("/v1") + "/api/v1")


def complete(ask: Ask, messages: list[Any], **more: Any) -> Any:
    if ask.retries is not None:
        more["retries"] = None  # by default it repeats a 5xx for an hour
    return client_of(ask).chat.send(messages=messages, model=ask.model, http_headers=ask.headers, **more)


PLAIN = PlainChat(complete)


def stream(ask: Ask) -> dict[str, Any]:
    with complete(ask, [user(ask.prompt)], stream=True) as events:
        return {"pieces": [event.choices[0].delta.content or "" for event in events]}


def usage(ask: Ask) -> dict[str, Any]:
    whole = complete(ask, [user(ask.prompt)])
    with complete(ask, [user(ask.prompt)], stream=True, stream_options={"include_usage": True}) as events:
        *_, last = events
    return {"usage": [[each.usage.prompt_tokens, each.usage.completion_tokens] for each in (whole, last)]}


def parallel_tools(ask: Ask) -> dict[str, Any]:
    """Join the pieces of the calls: this client has no function for it."""
    with complete(ask, [user(ask.prompt)], tools=TOOLS, parallel_tool_calls=True, stream=True) as events:
        pieces = [piece for event in events for piece in event.choices[0].delta.tool_calls or []]
    return PLAIN.joined_tools(ask, pieces)


def embeddings(ask: Ask) -> dict[str, Any]:
    answer = client_of(ask).embeddings.generate(
        model=ask.embedding_model, input=["one", "two"], http_headers=ask.headers
    )
    return {"sizes": [len(each.embedding) for each in answer.data]}


def cancel(ask: Ask) -> dict[str, Any]:
    with complete(ask, [user(ask.prompt)], stream=True) as events:
        next(events)
    return {}


serve(
    "openrouter",
    chat=PLAIN.chat,
    stream=stream,
    usage=usage,
    tools=PLAIN.tools,
    parallel_tools=parallel_tools,
    structured=PLAIN.structured,
    echo=PLAIN.echo,
    embeddings=embeddings,
    cancel=cancel,
)
