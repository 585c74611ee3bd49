"""Pydantic AI: its agents call the tools themselves and send their results back."""

import asyncio
from typing import Any

import openai
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, Embedder, NativeOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from serve import Ask, serve


class Found(BaseModel):
    call: int
    text: str


def provider_of(ask: Ask) -> OpenAIProvider:
    retries = openai.DEFAULT_MAX_RETRIES if ask.retries is None else ask.retries
    client = AsyncOpenAI(
        base_url=ask.base_url, api_key=ask.key, default_headers=ask.headers, max_retries=retries
    )
    return OpenAIProvider(openai_client=client)


def agent_of(ask: Ask, *tools: Any, kind: Any = OpenAIChatModel, **more: Any) -> Agent[Any, Any]:
    return Agent(kind(ask.model, provider=provider_of(ask)), tools=tools, **more)


def tools_of(calls: list[Any]) -> list[Any]:
    def look(call: int, text: str) -> str:
        calls.append(["look", {"call": call, "text": text}])
        return "done"

    def search(call: int, text: str) -> str:
        calls.append(["search", {"call": call, "text": text}])
        return "done"

    return [look, search]


def chat(ask: Ask) -> dict[str, Any]:
    return {"text": agent_of(ask).run_sync(ask.prompt).output}


async def pieces_of(agent: Agent[Any, Any], prompt: str) -> list[str]:
    async with agent.run_stream(prompt) as result:
        return [piece async for piece in result.stream_text(delta=True, debounce_by=None)]


def stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": asyncio.run(pieces_of(agent_of(ask), ask.prompt))}


def usage(ask: Ask) -> dict[str, Any]:
    async def streamed() -> Any:
        async with agent_of(ask).run_stream(ask.prompt) as result:
            await result.get_output()
            return result.usage

    counts = [agent_of(ask).run_sync(ask.prompt).usage, asyncio.run(streamed())]
    return {"usage": [[count.input_tokens, count.output_tokens] for count in counts]}


def tools(ask: Ask) -> dict[str, Any]:
    calls: list[Any] = []
    return {"text": agent_of(ask, *tools_of(calls)).run_sync(ask.prompt).output, "calls": calls}


def parallel_tools(ask: Ask) -> dict[str, Any]:
    calls: list[Any] = []
    pieces = asyncio.run(pieces_of(agent_of(ask, *tools_of(calls)), ask.prompt))
    return {"text": "".join(pieces), "calls": calls}


def structured(ask: Ask) -> dict[str, Any]:
    return {"value": agent_of(ask, output_type=NativeOutput(Found)).run_sync(ask.prompt).output.model_dump()}


def echo(ask: Ask) -> dict[str, Any]:
    first = agent_of(ask).run_sync(ask.prompt)
    return {"text": agent_of(ask).run_sync("go on", message_history=first.all_messages()).output}


def embeddings(ask: Ask) -> dict[str, Any]:
    model = OpenAIEmbeddingModel(ask.embedding_model, provider=provider_of(ask))
    result = Embedder(model).embed_documents_sync(["one", "two"])
    return {"sizes": [len(vector) for vector in result.embeddings]}


def cancel(ask: Ask) -> dict[str, Any]:
    async def first_piece() -> None:
        async with agent_of(ask).run_stream(ask.prompt) as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                await result.cancel()
                return

    asyncio.run(first_piece())
    return {}


def responses(ask: Ask) -> dict[str, Any]:
    calls: list[Any] = []
    agent = agent_of(ask, *tools_of(calls), kind=OpenAIResponsesModel)
    return {"text": agent.run_sync(ask.prompt).output, "calls": calls}


def responses_stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": asyncio.run(pieces_of(agent_of(ask, kind=OpenAIResponsesModel), ask.prompt))}


serve(
    "pydantic-ai-slim",
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
