"""The service under test: requests of agents, and answers of the faked upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson

from ridges_proxy import create_app
from ridges_proxy.ledger import Kind, MemoryLedger, Run, RunQuery
from ridges_proxy.server.service import EXTENSION
from tests.support.app import AGENT, settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

    from ridges_proxy.ledger import Hold, Ledger
    from ridges_proxy.web.services import Services

CHAT_URL = "http://chutes.test/v1/chat/completions"
EMBED_URL = "http://embed.test/embed"

MODEL = "deepseek-ai/DeepSeek-V3-0324"
RUN = "run-of-the-test"
REQUEST_ID = "request-of-the-test"
HEADERS = {**AGENT, "X-Request-ID": REQUEST_ID}

HELLO = {"role": "user", "content": "Hello"}
CHAT = {"run_id": RUN, "messages": [HELLO]}
TEXT = {"run_id": RUN, "input": "Hello"}

CAP_NANOUSD = 2_000_000_000
NANOUSD_PER_TOKEN = 270
HELLO_TOKENS = 35 + 16 + 256
"""The bound of CHAT's prompt: the bytes of its messages, and the allowances of `billing.bounds`."""

WHOLE_HOLD_NANOUSD = (HELLO_TOKENS + 1024) * NANOUSD_PER_TOKEN
"""The cost of a call that was sent and had no answer: its full hold."""

DONE = b"[DONE]"

INFERENCE_FAILED = "Failed to get inference due to internal server error. Please try again later."
EMBEDDING_FAILED = "Failed to get embedding due to internal server error. Please try again later."


def app_of(ledger: Ledger | None = None, **settings: str) -> Flask:
    """A new app, with settings by their names."""
    return create_app(settings_of(**settings), ledger)


def services_of(app: Flask) -> Services:
    return cast("Services", app.extensions[EXTENSION])


def infer(app: Flask, headers: Mapping[str, str] | None = None, **fields: object) -> TestResponse:
    """Send an inference; `fields` replace or extend those of CHAT."""
    return app.test_client().post("/agents/inference", json={**CHAT, **fields}, headers=headers or HEADERS)


def embed(app: Flask, headers: Mapping[str, str] | None = None, **fields: object) -> TestResponse:
    """Send an embedding; `fields` replace or extend those of TEXT."""
    return app.test_client().post("/agents/embedding", json={**TEXT, **fields}, headers=headers or HEADERS)


def usage(app: Flask, run_id: str = RUN) -> TestResponse:
    return app.test_client().get("/agents/usage", query_string={"run_id": run_id}, headers=HEADERS)


def post(
    app: Flask, body: bytes, path: str = "/agents/inference", content_type: str | None = "application/json"
) -> TestResponse:
    """Post a raw body."""
    return app.test_client().post(path, data=body, content_type=content_type, headers=HEADERS)


OWN_BUDGET: dict[str, object] = {"budget": "run", "scope": "run", "window": "lifetime", "resets_at": None}
"""The fields of a refusal by the run's own budget."""


def envelope(detail: object, code: str, **hint: str) -> dict[str, object]:
    """The complete body of an error."""
    return {"detail": detail, "code": code, "request_id": REQUEST_ID, **hint}


def problem(loc: list[str | int], msg: str, kind: str) -> dict[str, object]:
    return {"loc": loc, "msg": msg, "type": kind}


def seen(reply: TestResponse) -> tuple[int, Any]:
    """The status and the JSON body, which most tests check."""
    return reply.status_code, orjson.loads(reply.data)


def sse(*events: object) -> bytes:
    """A stream of events. Bytes are sent unchanged, other values as JSON."""
    lines = [event if isinstance(event, bytes) else orjson.dumps(event) for event in events]
    return b"".join(b"data: " + line + b"\n\n" for line in lines)


def delta(content: str | None, **choice: object) -> dict[str, object]:
    return {"id": "chat-1", "choices": [{"index": 0, "delta": {"content": content}, **choice}]}


def tokens(prompt: int, completion: int) -> dict[str, object]:
    """The event that reports the usage."""
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return {"id": "chat-1", "choices": [], "usage": counts}


def answer_of(*pieces: str) -> bytes:
    """A complete answer of 10 + 5 tokens: 4,050 nano-USD."""
    return sse(*(delta(piece) for piece in pieces), tokens(10, 5), DONE)


def sent(upstream: responses.RequestsMock) -> Any:  # noqa: ANN401 - any JSON
    """The body of the last upstream request."""
    return orjson.loads(cast("bytes", upstream.calls[-1].request.body))


def hold_of(app: Flask, amount_nanousd: int) -> Hold:
    """Hold an amount of the run's budget, as a call in flight does."""
    run = Run(RUN, CAP_NANOUSD)
    return services_of(app).ledger.reserve(run, Kind.INFERENCE, amount_nanousd, amount_nanousd, 60.0)


def spend(app: Flask, amount_nanousd: int) -> None:
    """Spend an amount of the run's budget."""
    services_of(app).ledger.settle(hold_of(app, amount_nanousd), amount_nanousd)


def spent_nanousd(app: Flask) -> int | None:
    """The run's spent amount; None if the ledger does not know the run."""
    run = services_of(app).ledger.usage(RUN)
    return None if run is None else run.spent_nanousd


def usage_in(app: Flask) -> dict[str, tuple[int, int, int]]:
    """Each run's spent and held amounts and its number of calls."""
    page = services_of(app).ledger.list(RunQuery(limit=1_000_000))
    return {run.run_id: (run.spent_nanousd, run.held_nanousd, run.calls) for run in page.runs}


def untouched(app: Flask) -> bool:
    """Whether the ledger does not know the run."""
    return services_of(app).ledger.usage(RUN) is None


def memory() -> MemoryLedger:
    return MemoryLedger(1200.0)
