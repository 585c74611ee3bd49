"""The capabilities that every client must have: the columns of the matrix in docs/start/clients.md."""

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

BUDGET_USD = "0.024"
"""Buys 88,888 tokens: enough for the prompt of every agent here, and too few for TOO_EXPENSIVE."""

TOO_EXPENSIVE = "x" * 100_000
"""An argument of a command can be only a little longer."""


def token_of(run: str, **claims: str) -> str:
    """Return a token for a run. It is valid for ten minutes."""
    now = int(time.time())
    always = {"aud": "ridges-proxy", "sub": run, "iat": now, "exp": now + 600}
    return jwt.encode({**always, **claims}, RUN_TOKEN_KEY, algorithm="HS256")


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
        }
        return self.driver.ask(self.row.scenario, **{**asked, **changed})

    def answer(self, **changed: object) -> dict[str, Any]:
        """Run the scenario, which must succeed, and check that the run paid what the upstream billed."""
        answer = self.ask(**changed)
        assert "error" not in answer, answer["error"]
        assert self.chutes.wait(idle=1)["billed_nanousd"] <= self.proxy.usage(self.run).spent
        return answer

    def failure(self, status: int | None, words: str, **changed: object) -> None:
        """Run the scenario, which must fail. Its user must see the proxy's words.

        The status is checked where the client tells it. None: any, because it is the client's own.
        """
        answer = self.ask(**changed)
        assert "error" in answer, answer
        error = answer["error"]
        assert status is None or error["status"] in {None, status}, error
        assert words in error["text"].lower(), error

    def token(self) -> str:
        return token_of(self.run, **self.row.claims)


@dataclass(frozen=True)
class Row:
    """One capability: the driver's scenario, what it is given, and what must come of it."""

    name: str
    scenario: str
    check: Callable[[Stage], None]
    prompt: str = "hi"
    kinds: tuple[str, ...] = ("library", "agent")
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


def _usage(stage: Stage) -> None:
    """A whole answer and a stream: the client's user sees the tokens that the upstream billed."""
    answer = stage.answer()
    billed = [[call["prompt_tokens"], call["completion_tokens"]] for call in stage.chutes.calls()]
    assert answer["usage"] == billed
    assert len(billed) > 1


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


def _edit(stage: Stage) -> None:
    """The agent changes a file in a temporary repository, and says that it is done."""
    answer = stage.answer()
    assert answer["text"].strip() == WORDS
    assert answer["file"] == "goodbye\n"


def _budget_spent(stage: Stage) -> None:
    stage.failure(402, "budget", prompt=TOO_EXPENSIVE)
    requests = stage.proxy.lines.wait(event="request", run=stage.run)
    assert [line["status"] for line in requests] == [402] * stage.client.requests_at_402


def _run_busy(stage: Stage) -> None:
    """Another call of the run holds its money. A client that retries gets its answer afterwards."""
    prompt = f"{CANARY} {directive(gate='busy', gate_at=1)}"
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 1_000_000}
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
    stage.failure(400, "invalid request")


def _wrong_key(stage: Stage) -> None:
    stage.failure(401, "key", key="wrong-key-of-a-client")


def _another_run(stage: Stage) -> None:
    stage.failure(403, "another run", headers={"X-Run-Id": "of-another"})


def _unknown_model(stage: Stage) -> None:
    stage.failure(404, "not supported", model="no/such-model")


def _broken_stream(stage: Stage) -> None:
    """The status was sent before the failure. The client must not take half an answer for a whole one."""
    stage.failure(None, "upstream", retries=0)


def _unavailable(stage: Stage) -> None:
    stage.failure(503, "no instance", retries=0)


def _cancel(stage: Stage) -> None:
    stage.ask()
    stage.chutes.wait(client_gone=1)
    stage.proxy.lines.wait(event="request", run=stage.run, code="client_gone")
    wait_until(lambda: stage.proxy.in_flight() == 0, "the end of the call")
    assert stage.chutes.calls()[0]["billed_nanousd"] <= stage.proxy.usage(stage.run).spent


FOUND = directive(answer='{"call": 3, "text": "found it"}')

LIBRARY, AGENT = ("library",), ("agent",)

ROWS = (
    Row("chat", "chat", _chat),
    Row("headers", "chat", _headers),
    Row("stream", "stream", _stream, kinds=LIBRARY),
    Row("usage", "usage", _usage, kinds=LIBRARY),
    Row("tools", "tools", _tools(1), directive(tool_calls=1, then={}), LIBRARY),
    Row("parallel tools", "parallel_tools", _tools(2), directive(tool_calls=2, then={}), LIBRARY),
    Row("structured output", "structured", _structured, FOUND, LIBRARY),
    Row("messages sent back", "echo", _echo, directive(reasoning=2), LIBRARY),
    Row("embeddings", "embeddings", _embeddings, kinds=LIBRARY),
    Row("responses", "responses", _tools(2), directive(tool_calls=2, then={}), LIBRARY),
    Row("responses stream", "responses_stream", _stream, kinds=LIBRARY),
    Row("edit", "edit", _edit, kinds=AGENT),
    Row("402", "chat", _budget_spent, claims={"budget_usd": BUDGET_USD}),
    Row("429", "chat", _run_busy, claims={"budget_usd": BUDGET_USD}),
    Row("400", "chat", _invalid, directive(fault="invalid_request")),
    Row("401", "chat", _wrong_key),
    Row("403", "chat", _another_run),
    Row("404", "chat", _unknown_model),
    Row("503", "chat", _unavailable, directive(fault="no_instances")),
    Row("broken stream", "stream", _broken_stream, directive(fault="cut", after=2), LIBRARY),
    Row("cancel", "cancel", _cancel, directive(gate="left", gate_at=2), LIBRARY),
)


def rows_of(client: Client) -> dict[str, Row]:
    """Return the rows that this client must pass, by their names."""
    return {row.name: row for row in ROWS if client.kind in row.kinds and row.name not in client.absent}
