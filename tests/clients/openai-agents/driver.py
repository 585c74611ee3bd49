"""OpenAI's Agents SDK: its agents call the tools themselves and send their results back."""

import asyncio
from typing import Any

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel
from serve import Ask, serve


class Found(BaseModel):
    call: int
    text: str


def agent_of(ask: Ask, *tools: Any, kind: Any = OpenAIChatCompletionsModel, **more: Any) -> Agent[Any]:
    retries = openai.DEFAULT_MAX_RETRIES if ask.retries is None else ask.retries
    client = AsyncOpenAI(
        base_url=ask.base_url, api_key=ask.key, default_headers=ask.headers, max_retries=retries
    )
    return Agent(name="agent", model=kind(ask.model, client), tools=list(tools), **more)


def tools_of(calls: list[Any]) -> list[Any]:
    @function_tool
    def look(call: int, text: str) -> str:
        calls.append(["look", {"call": call, "text": text}])
        return "done"

    @function_tool
    def search(call: int, text: str) -> str:
        calls.append(["search", {"call": call, "text": text}])
        return "done"

    return [look, search]


async def pieces_of(agent: Agent[Any], prompt: str) -> list[str]:
    events = Runner.run_streamed(agent, prompt).stream_events()
    raw = [event.data async for event in events if event.type == "raw_response_event"]
    return [each.delta for each in raw if each.type == "response.output_text.delta"]


def chat(ask: Ask) -> dict[str, Any]:
    return {"text": Runner.run_sync(agent_of(ask), ask.prompt).final_output}


def stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": asyncio.run(pieces_of(agent_of(ask), ask.prompt))}


def usage(ask: Ask) -> dict[str, Any]:
    def agent() -> Agent[Any]:
        return agent_of(ask, model_settings=ModelSettings(include_usage=True))

    async def streamed() -> Any:
        result = Runner.run_streamed(agent(), ask.prompt)
        async for _ in result.stream_events():
            pass
        return result

    results = [Runner.run_sync(agent(), ask.prompt), asyncio.run(streamed())]
    counts = [result.context_wrapper.usage for result in results]
    return {"usage": [[count.input_tokens, count.output_tokens] for count in counts]}


def tools(ask: Ask) -> dict[str, Any]:
    calls: list[Any] = []
    return {
        "text": Runner.run_sync(agent_of(ask, *tools_of(calls)), ask.prompt).final_output,
        "calls": calls,
    }


def parallel_tools(ask: Ask) -> dict[str, Any]:
    calls: list[Any] = []
    pieces = asyncio.run(pieces_of(agent_of(ask, *tools_of(calls)), ask.prompt))
    return {"text": "".join(pieces), "calls": calls}


def structured(ask: Ask) -> dict[str, Any]:
    answer = Runner.run_sync(agent_of(ask, output_type=Found), ask.prompt).final_output
    return {"value": answer.model_dump()}


def echo(ask: Ask) -> dict[str, Any]:
    first = Runner.run_sync(agent_of(ask), ask.prompt)
    again: Any = [*first.to_input_list(), {"role": "user", "content": "go on"}]
    return {"text": Runner.run_sync(agent_of(ask), again).final_output}


def cancel(ask: Ask) -> dict[str, Any]:
    async def first_piece() -> None:
        result = Runner.run_streamed(agent_of(ask), ask.prompt)
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                result.cancel()
                return

    asyncio.run(first_piece())
    return {}


def responses(ask: Ask) -> dict[str, Any]:
    calls: list[Any] = []
    agent = agent_of(ask, *tools_of(calls), kind=OpenAIResponsesModel)
    return {"text": Runner.run_sync(agent, ask.prompt).final_output, "calls": calls}


def responses_stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": asyncio.run(pieces_of(agent_of(ask, kind=OpenAIResponsesModel), ask.prompt))}


set_tracing_disabled(disabled=True)  # else it sends every run to OpenAI
serve(
    "openai-agents",
    chat=chat,
    stream=stream,
    usage=usage,
    tools=tools,
    parallel_tools=parallel_tools,
    structured=structured,
    echo=echo,
    cancel=cancel,
    responses=responses,
    responses_stream=responses_stream,
)
