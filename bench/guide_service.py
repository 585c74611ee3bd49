"""The service that this one replaces, in its usual form: FastAPI, a client for every call, a bill afterwards.

It is written from that service's contract, for the benchmarks, and keeps its books as it does: what a call
costs is known once it is over, and a run is refused when it has spent its cap.

    uvicorn bench.guide_service:app
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import defaultdict
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel

USD_PER_MILLION_TOKENS = 0.27
USD_PER_SECOND = 0.0001
MAX_USD = float(os.environ.get("MAX_COST_PER_RUN", "2.0"))
MODEL = "deepseek-ai/DeepSeek-V3-0324"

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("guide")
app = FastAPI()
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
spent: defaultdict[str, float] = defaultdict(float)
spent_on_embeddings: defaultdict[str, float] = defaultdict(float)


class Message(BaseModel):
    """One message of a chat."""

    role: str
    content: str


class Inference(BaseModel):
    """What an agent sends."""

    run_id: str
    messages: list[Message]
    model: str | None = None
    temperature: float | None = None


class EmbeddingRequest(BaseModel):
    """What an agent sends to have vectors."""

    run_id: str
    input: str


def check_key(request: Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {os.environ['PROXY_API_KEY']}":
        raise HTTPException(401, "Invalid API key")


@app.post("/agents/inference")
async def inference(asked: Inference, _: Annotated[None, Depends(check_key)]) -> Any:  # noqa: ANN401 - text, or an error
    """Answer a chat with its whole text."""
    if spent[asked.run_id] >= MAX_USD:
        return {"error": "The run has reached its maximum cost."}
    body = {
        "model": asked.model or MODEL,
        "messages": [message.model_dump() for message in asked.messages],
        "stream": True,
        "max_tokens": 1024,
        "temperature": 0.7 if asked.temperature is None else asked.temperature,
    }
    text, tokens = await answer(body)
    spent[asked.run_id] += tokens * USD_PER_MILLION_TOKENS / 1e6
    return text


async def answer(body: dict[str, Any]) -> tuple[str, int]:
    """The text, and the tokens that were reported."""
    parts: list[str] = []
    tokens = 0
    headers = {"Authorization": f"Bearer {os.environ['CHUTES_API_KEY']}"}
    url = f"{os.environ['CHUTES_BASE_URL']}/chat/completions"
    async with (
        httpx.AsyncClient(timeout=None) as client,
        client.stream("POST", url, json=body, headers=headers) as response,
    ):
        logger.info("status %s", response.status_code)
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            parts += [choice["delta"].get("content") or "" for choice in chunk.get("choices") or []]
            tokens = (chunk.get("usage") or {}).get("total_tokens", tokens)
    return "".join(parts), tokens


@app.post("/agents/embedding")
async def embedding(asked: EmbeddingRequest, _: Annotated[None, Depends(check_key)]) -> Any:  # noqa: ANN401 - the chute's JSON
    """Answer a text with its vectors; paid by the second, from a budget of its own."""
    if spent_on_embeddings[asked.run_id] >= MAX_USD:
        return {"error": "The run has reached its maximum cost."}
    headers = {"Authorization": f"Bearer {os.environ['CHUTES_API_KEY']}"}
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=None) as client:
        response = await client.post(
            os.environ["CHUTES_EMBEDDING_URL"], json={"inputs": asked.input}, headers=headers
        )
    spent_on_embeddings[asked.run_id] += (time.monotonic() - began) * USD_PER_SECOND
    return response.json()
