"""The service that this proxy replaces, in its usual form: FastAPI, and a new HTTP client for each call.

It is written for the benchmarks from that service's contract. It keeps its accounts as that service does: the
cost of a call is known when the call is over, and a run is refused once it has spent its budget.

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

PRICE_USD_PER_MILLION_TOKENS = 0.27
PRICE_USD_PER_SECOND = 0.0001
BUDGET_USD = float(os.environ.get("MAX_COST_PER_RUN", "2.0"))
DEFAULT_MODEL = "deepseek-ai/DeepSeek-V3-0324"

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("guide")
app = FastAPI()
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
inference_usd: defaultdict[str, float] = defaultdict(float)
embedding_usd: defaultdict[str, float] = defaultdict(float)


class Message(BaseModel):
    """One message of a chat."""

    role: str
    content: str


class InferenceBody(BaseModel):
    """The body of `/agents/inference`."""

    run_id: str
    messages: list[Message]
    model: str | None = None
    temperature: float | None = None


class EmbeddingBody(BaseModel):
    """The body of `/agents/embedding`."""

    run_id: str
    input: str


def check_key(request: Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {os.environ['PROXY_API_KEY']}":
        raise HTTPException(401, "Invalid API key")


def chutes_headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {os.environ['CHUTES_API_KEY']}"}


@app.post("/agents/inference")
async def inference(body: InferenceBody, _: Annotated[None, Depends(check_key)]) -> Any:  # noqa: ANN401 - text, or an error
    """Answer a chat with the whole text."""
    if inference_usd[body.run_id] >= BUDGET_USD:
        return {"error": "The run has reached its maximum cost."}
    text, tokens = await complete(
        {
            "model": body.model or DEFAULT_MODEL,
            "messages": [message.model_dump() for message in body.messages],
            "stream": True,
            "max_tokens": 1024,
            "temperature": 0.7 if body.temperature is None else body.temperature,
        }
    )
    inference_usd[body.run_id] += tokens * PRICE_USD_PER_MILLION_TOKENS / 1e6
    return text


async def complete(body: dict[str, Any]) -> tuple[str, int]:
    """The text of a completion, and the number of tokens that the upstream reported."""
    parts: list[str] = []
    tokens = 0
    url = f"{os.environ['CHUTES_BASE_URL']}/chat/completions"
    async with (
        httpx.AsyncClient(timeout=None) as client,
        client.stream("POST", url, json=body, headers=chutes_headers()) as response,
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
async def embedding(body: EmbeddingBody, _: Annotated[None, Depends(check_key)]) -> Any:  # noqa: ANN401 - the chute's JSON
    """Answer a text with its vectors, which cost their time, on a budget apart from that of inference."""
    if embedding_usd[body.run_id] >= BUDGET_USD:
        return {"error": "The run has reached its maximum cost."}
    started = time.monotonic()
    async with httpx.AsyncClient(timeout=None) as client:
        url = os.environ["CHUTES_EMBEDDING_URL"]
        response = await client.post(url, json={"inputs": body.input}, headers=chutes_headers())
    embedding_usd[body.run_id] += (time.monotonic() - started) * PRICE_USD_PER_SECOND
    return response.json()
