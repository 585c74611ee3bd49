"""Strands Agents: its agents stream every answer, and call the tools themselves."""

import asyncio
from typing import Any

from pydantic import BaseModel
from serve import Ask, serve
from strands import Agent, tool
from strands.models.openai import OpenAIModel
from strands.models.openai_responses import OpenAIResponsesModel


class Found(BaseModel):
    """What was found."""

    call: int
    text: str


def agent_of(ask: Ask, *tools: Any, kind: Any = OpenAIModel, **more: Any) -> Agent:
    options: dict[str, Any] = {"base_url": ask.base_url, "api_key": ask.key, "default_headers": ask.headers}
    if ask.retries is not None:
        options["max_retries"] = ask.retries
    model = kind(client_args=options, model_id=ask.model)
    return Agent(model=model, tools=list(tools), callback_handler=None, **more)


def tools_of(calls: list[Any]) -> list[Any]:
    @tool
    def look(call: int, text: str) -> str:
        """Look something up."""
        calls.append(["look", {"call": call, "text": text}])
        return "done"

    @tool
    def search(call: int, text: str) -> str:
        """Search for something."""
        calls.append(["search", {"call": call, "text": text}])
        return "done"

    return [look, search]


async def pieces_of(agent: Agent, prompt: str) -> list[str]:
    return [event["data"] async for event in agent.stream_async(prompt) if "data" in event]


def chat(ask: Ask) -> dict[str, Any]:
    return {"text": str(agent_of(ask)(ask.prompt))}


def stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": asyncio.run(pieces_of(agent_of(ask), ask.prompt))}


def usage(ask: Ask) -> dict[str, Any]:
    """It streams every answer."""
    counts = [agent_of(ask)(ask.prompt).metrics.accumulated_usage for _ in range(2)]
    return {"usage": [[count["inputTokens"], count["outputTokens"]] for count in counts]}


def tools(ask: Ask) -> dict[str, Any]:
    calls: list[Any] = []
    return {"text": str(agent_of(ask, *tools_of(calls))(ask.prompt)), "calls": calls}


def structured(ask: Ask) -> dict[str, Any]:
    return {"value": agent_of(ask).structured_output(Found, ask.prompt).model_dump()}


def echo(ask: Ask) -> dict[str, Any]:
    agent = agent_of(ask)
    agent(ask.prompt)
    return {"text": str(agent("go on"))}


def cancel(ask: Ask) -> dict[str, Any]:
    async def first_piece() -> None:
        events = agent_of(ask).stream_async(ask.prompt)
        async for event in events:
            if "data" in event:
                await events.aclose()
                return

    asyncio.run(first_piece())
    return {}


def responses(ask: Ask) -> dict[str, Any]:
    calls: list[Any] = []
    return {
        "text": str(agent_of(ask, *tools_of(calls), kind=OpenAIResponsesModel)(ask.prompt)),
        "calls": calls,
    }


def responses_stream(ask: Ask) -> dict[str, Any]:
    return {"pieces": asyncio.run(pieces_of(agent_of(ask, kind=OpenAIResponsesModel), ask.prompt))}


serve(
    "strands-agents",
    chat=chat,
    stream=stream,
    usage=usage,
    tools=tools,
    parallel_tools=tools,
    structured=structured,
    echo=echo,
    cancel=cancel,
    responses=responses,
    responses_stream=responses_stream,
)
