"""LlamaIndex with its classes for servers that speak OpenAI's API."""

from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from serve import Ask, serve


class Found(BaseModel):
    call: int
    text: str


def look(call: int, text: str) -> str:
    """Look something up."""
    return f"{call} {text}"


def search(call: int, text: str) -> str:
    """Search for something."""
    return f"{call} {text}"


TOOLS = [FunctionTool.from_defaults(look), FunctionTool.from_defaults(search)]


def options_of(ask: Ask) -> dict[str, Any]:
    options: dict[str, Any] = {"api_base": ask.base_url, "api_key": ask.key, "default_headers": ask.headers}
    return options if ask.retries is None else {**options, "max_retries": ask.retries}


def model_of(ask: Ask) -> OpenAILike:
    return OpenAILike(
        model=ask.model,
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        **options_of(ask),
    )


def user(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


def chat(ask: Ask) -> dict[str, Any]:
    return {"text": model_of(ask).chat([user(ask.prompt)]).message.content}


def stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": [piece.delta or "" for piece in model_of(ask).stream_chat([user(ask.prompt)])]}


def usage(ask: Ask) -> dict[str, Any]:
    whole = model_of(ask).chat([user(ask.prompt)])
    *_, last = model_of(ask).stream_chat([user(ask.prompt)], stream_options={"include_usage": True})
    counts = [each.raw.usage for each in (whole, last)]
    return {"usage": [[count.prompt_tokens, count.completion_tokens] for count in counts]}


def with_results(ask: Ask, response: Any) -> dict[str, Any]:
    """Send LlamaIndex's own message back, with a result for each of its calls."""
    model = model_of(ask)
    calls = model.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    results = [
        ChatMessage(role="tool", content="done", additional_kwargs={"tool_call_id": call.tool_id})
        for call in calls
    ]
    history = [user(ask.prompt), response.message, *results]
    answer = model.chat_with_tools(TOOLS, chat_history=history)
    return {"calls": [[call.tool_name, call.tool_kwargs] for call in calls], "text": answer.message.content}


def tools(ask: Ask) -> dict[str, Any]:
    return with_results(ask, model_of(ask).chat_with_tools(TOOLS, ask.prompt))


def parallel_tools(ask: Ask) -> dict[str, Any]:
    pieces = model_of(ask).stream_chat_with_tools(TOOLS, ask.prompt, allow_parallel_tool_calls=True)
    return with_results(ask, list(pieces)[-1])


def structured(ask: Ask) -> dict[str, Any]:
    return {"value": model_of(ask).as_structured_llm(Found).chat([user(ask.prompt)]).raw.model_dump()}


def echo(ask: Ask) -> dict[str, Any]:
    first = model_of(ask).chat([user(ask.prompt)]).message
    return {"text": model_of(ask).chat([user(ask.prompt), first, user("go on")]).message.content}


def embeddings(ask: Ask) -> dict[str, Any]:
    client = OpenAILikeEmbedding(model_name=ask.embedding_model, **options_of(ask))
    return {"sizes": [len(vector) for vector in client.get_text_embedding_batch(["one", "two"])]}


serve(
    "llama-index-llms-openai-like",
    chat=chat,
    stream=stream,
    usage=usage,
    tools=tools,
    parallel_tools=parallel_tools,
    structured=structured,
    echo=echo,
    embeddings=embeddings,
)
