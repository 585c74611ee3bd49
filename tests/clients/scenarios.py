"""The capabilities that every client must have: the columns of the matrix in docs/CLIENTS.md."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jwt

from tests.process.event_stream import EventStream
from tests.process.fake_chutes_control import directive
from tests.process.server import CANARY, wait_until
from tests.support.app import PROXY_KEY
from tests.support.chutes import emptied

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clients.client import Client, Driver
    from tests.process.fake_chutes_control import Upstream
    from tests.process.server import Proxy

RUN_TOKEN_KEY = "the-secret-of-run-tokens-in-tests"
MODEL = "deepseek-ai/DeepSeek-V3-0324"
EMBEDDING_MODEL = "BAAI/bge-large-en-v1.5"
WORDS = "word1 word2 word3 word4 word5"
CALLS = [["look", {"call": 0, "text": WORDS + " "}], ["search", {"call": 1, "text": WORDS + " "}]]

TOOL_RESULT = directive(events=5)
"""What the tools of a driver return: the next turn is then an answer and no call again."""

BUDGET_USD = "0.001"
"""Buys 3,703 tokens: too few for TOO_EXPENSIVE, and one call without max_tokens holds them all."""

TOO_EXPENSIVE = "x" * 20_000


@dataclass(frozen=True)
class Stage:
    """A row at work: the client, and what it talks to."""

    client: Client
    driver: Driver
    proxy: Proxy
    chutes: Upstream
    run: str
    row: Row

    def ask(self, **changed: object) -> dict[str, Any]:
        """Run the row's scenario with a run token as the key, unless `changed` says otherwise."""
        asked = {
            "base_url": f"http://127.0.0.1:{self.proxy.port}/v1",
            "key": self.token(),
            "model": MODEL,
            "embedding_model": EMBEDDING_MODEL,
            "prompt": f"{CANARY} {self.row.prompt}",
            "tool_result": TOOL_RESULT,
        }
        return self.driver.ask(self.row.scenario, **{**asked, **changed})

    def answer(self, **changed: object) -> dict[str, Any]:
        """Run the scenario, which must succeed, and check that the run paid what the upstream billed."""
        answer = self.ask(**changed)
        assert "error" not in answer, answer["error"]
        assert self.chutes.wait(idle=1)["billed_nanousd"] <= self.proxy.usage(self.run).spent
        return answer

    def failure(self, status: int, text: str, **changed: object) -> None:
        """Run the scenario, which must fail with this status and a text with these words."""
        answer = self.ask(**changed)
        assert "error" in answer, answer
        error = answer["error"]
        assert str(status) in f"{error['status']} {error['text']}", error
        assert text in error["text"], error

    def token(self) -> str:
        now = int(time.time())
        claims = {"aud": "ridges-proxy", "sub": self.run, "iat": now, "exp": now + 600}
        return jwt.encode({**claims, **self.row.claims}, RUN_TOKEN_KEY, algorithm="HS256")

    def requests(self) -> int:
        """The number of requests of the run that have ended, by the proxy's log."""
        return len(self.proxy.lines.matching(event="request", run=self.run))


@dataclass(frozen=True)
class Row:
    """One capability: the driver's scenario, what it is given, and what must come of it."""

    name: str
    scenario: str
    check: Callable[[Stage], None]
    prompt: str = "hi"
    claims: dict[str, str] = field(default_factory=dict)
    """Of the run token, beside those that every one has."""


def perform(client: Client, driver: Driver, proxy: Proxy, chutes: Upstream, row: Row) -> None:
    """Check one row of the matrix, with a run of its own."""
    row.check(Stage(client, driver, proxy, emptied(chutes), uuid4().hex, row))


def _chat(stage: Stage) -> None:
    assert stage.answer()["text"].strip() == WORDS
    assert stage.proxy.usage(stage.run).calls == 1


def _headers(stage: Stage) -> None:
    answer = stage.answer(key=PROXY_KEY, headers={"X-Run-Id": stage.run})
    assert answer["text"].strip() == WORDS
    assert stage.proxy.usage(stage.run).calls == 1


def _stream(stage: Stage) -> None:
    pieces = [piece for piece in stage.answer()["pieces"] if piece]
    assert "".join(pieces).strip() == WORDS
    assert len(pieces) > 1


def _tools(number: int) -> Callable[[Stage], None]:
    def check(stage: Stage) -> None:
        answer = stage.answer()
        assert sorted(answer["calls"]) == CALLS[:number]
        assert answer["text"].strip() == WORDS

    return check


def _structured(stage: Stage) -> None:
    assert stage.answer()["value"] == {"call": 3, "text": "found it"}


def _echo(stage: Stage) -> None:
    assert stage.answer()["text"].strip() == WORDS
    assert stage.proxy.usage(stage.run).calls > 1


def _embeddings(stage: Stage) -> None:
    assert stage.answer()["sizes"] == [1024, 1024]


def _budget_spent(stage: Stage) -> None:
    stage.failure(402, "budget", prompt=TOO_EXPENSIVE)
    assert len(stage.proxy.lines.wait(event="request", run=stage.run)) == 1, "it is final: no retry"


def _run_busy(stage: Stage) -> None:
    """Another call of the run holds its money. A client that retries gets its answer afterwards."""
    body = {"messages": [{"role": "user", "content": f"{CANARY} {directive(gate='busy', gate_at=1)}"}]}
    with ThreadPoolExecutor(1) as pool, EventStream(stage.proxy.port, body, key=stage.token()) as holder:
        stage.chutes.wait(at_gate=1)
        if stage.client.run_busy == "raises":
            stage.failure(429, "in progress")
            return
        answer = pool.submit(stage.ask)
        stage.proxy.lines.wait(event="request", run=stage.run, code="run_busy")
        stage.chutes.release("busy")
        holder.events()
        found = answer.result()
    assert found.get("text", "").strip() == WORDS, found


def _invalid(stage: Stage) -> None:
    stage.failure(400, "Invalid request")


def _wrong_key(stage: Stage) -> None:
    stage.failure(401, "", key="wrong-key-of-a-client")


def _unavailable(stage: Stage) -> None:
    stage.failure(503, "", retries=0)


def _cancel(stage: Stage) -> None:
    stage.ask()
    stage.chutes.wait(client_gone=1)
    stage.proxy.lines.wait(event="request", run=stage.run, code="client_gone")
    wait_until(lambda: stage.proxy.in_flight() == 0, "the end of the call")
    assert stage.chutes.calls()[0]["billed_nanousd"] <= stage.proxy.usage(stage.run).spent


FOUND = directive(answer='{"call": 3, "text": "found it"}')

ROWS = (
    Row("chat", "chat", _chat),
    Row("headers", "chat", _headers),
    Row("stream", "stream", _stream),
    Row("tools", "tools", _tools(1), directive(tool_calls=1)),
    Row("parallel tools", "parallel_tools", _tools(2), directive(tool_calls=2)),
    Row("structured output", "structured", _structured, FOUND),
    Row("messages sent back", "echo", _echo, directive(reasoning=2)),
    Row("embeddings", "embeddings", _embeddings),
    Row("responses", "responses", _tools(2), directive(tool_calls=2)),
    Row("responses, streamed", "responses_stream", _stream),
    Row("402", "chat", _budget_spent, claims={"budget_usd": BUDGET_USD}),
    Row("429", "chat", _run_busy, claims={"budget_usd": BUDGET_USD}),
    Row("400", "chat", _invalid, directive(fault="invalid_request")),
    Row("401", "chat", _wrong_key),
    Row("503", "chat", _unavailable, directive(fault="no_instances")),
    Row("cancel", "cancel", _cancel, directive(gate="left", gate_at=2)),
)
