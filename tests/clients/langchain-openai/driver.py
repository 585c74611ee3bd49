"""LangChain's classes for OpenAI's API."""

from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from serve import Ask, serve


class look(BaseModel):  # noqa: N801 - the name of the class is that of the tool
    """Look something up."""

    call: int
    text: str


class search(look):  # noqa: N801 - as above
    """Search for something."""


TOOLS = [look, search]


def options_of(ask: Ask) -> dict[str, Any]:
    options = {"base_url": ask.base_url, "api_key": ask.key, "default_headers": ask.headers}
    return options if ask.retries is None else {**options, "max_retries": ask.retries}


def model_of(ask: Ask, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(model=ask.model, **options_of(ask), **more)


def marked(text: str) -> HumanMessage:
    """Return a message that is marked for a cache, as LangChain's agents mark theirs."""
    return HumanMessage([{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}])


def chat(ask: Ask) -> dict[str, Any]:
    return {"text": model_of(ask).invoke(ask.prompt).text}


def stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": [chunk.text for chunk in model_of(ask).stream([marked(ask.prompt)])]}


def usage(ask: Ask) -> dict[str, Any]:
    model = model_of(ask, stream_usage=True)
    counts = [each.usage_metadata for each in (model.invoke(ask.prompt), joined(model.stream(ask.prompt)))]
    return {"usage": [[count["input_tokens"], count["output_tokens"]] for count in counts]}


def with_results(model: Any, ask: Ask, message: Any) -> dict[str, Any]:
    """Send LangChain's own message object back, with a result for each of its calls."""
    results = [ToolMessage("done", tool_call_id=call["id"]) for call in message.tool_calls]
    answer = model.invoke([marked(ask.prompt), message, *results])
    return {"calls": [[call["name"], call["args"]] for call in message.tool_calls], "text": answer.text}


def tools(ask: Ask) -> dict[str, Any]:
    model = model_of(ask).bind_tools(TOOLS)
    return with_results(model, ask, model.invoke([marked(ask.prompt)]))


def joined(chunks: Any) -> Any:
    first, *others = chunks
    for other in others:
        first += other
    return first


def parallel_tools(ask: Ask) -> dict[str, Any]:
    model = model_of(ask).bind_tools(TOOLS, parallel_tool_calls=True)
    return with_results(model, ask, joined(model.stream([marked(ask.prompt)])))


def structured(ask: Ask) -> dict[str, Any]:
    return {"value": model_of(ask).with_structured_output(look).invoke(ask.prompt).model_dump()}


def echo(ask: Ask) -> dict[str, Any]:
    """Send back a message, one that was joined from chunks, and one of a structured answer."""
    model = model_of(ask)
    messages: list[Any] = [marked(ask.prompt), model.invoke(ask.prompt)]
    messages += [marked("go on"), joined(model.stream(messages)), marked("go on")]
    return {"text": model.invoke(messages).text}


def embeddings(ask: Ask) -> dict[str, Any]:
    """Send texts. By default this class sends token numbers of OpenAI's models."""
    client = OpenAIEmbeddings(model=ask.embedding_model, check_embedding_ctx_length=False, **options_of(ask))
    return {"sizes": [len(vector) for vector in client.embed_documents(["one", "two"])]}


def cancel(ask: Ask) -> dict[str, Any]:
    chunks = model_of(ask).stream(ask.prompt)
    next(chunks)
    chunks.close()
    return {}


def responses(ask: Ask) -> dict[str, Any]:
    model = model_of(ask, use_responses_api=True).bind_tools(TOOLS)
    return with_results(model, ask, model.invoke([marked(ask.prompt)]))


def responses_stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": [chunk.text for chunk in model_of(ask, use_responses_api=True).stream(ask.prompt)]}


serve(
    "langchain-openai",
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
