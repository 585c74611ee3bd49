"""What is left of a stream on `/v1` when it is over, however it ended: its cost, and one line in the log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import MemoryLedger
from tests.contract_http.openai_api import CHAT_PATH, COST, begin, chat, stream
from tests.contract_http.service import (
    CHAT_URL,
    HELLO_TOKENS,
    MODEL,
    NANOUSD_PER_TOKEN,
    REQUEST_ID,
    RUN,
    answer_of,
    app_of,
    delta,
    services_of,
    spent_nanousd,
    sse,
)
from tests.support.app import CHUTES_KEY, PROXY_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    import responses
    from flask import Flask

    from ridges_proxy.ledger import Hold, RunUsage
    from tests.contract_http.pipe import Pipe

    Lines = Callable[[], list[dict[str, Any]]]

# --- the client leaves -------------------------------------------------------------------------------------


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def leave(app: Flask, pipe: Pipe, events: int) -> None:
    """Take so many pieces, and close the answer as the server does when its client has gone."""
    reply = begin(app)
    pieces = reply.iter_encoded()
    for number in range(events):
        if number:
            pipe.hand(sse(delta("ab")))
        next(pieces)
    reply.close()


@pytest.mark.parametrize("events", [0, 1, 2, 4])
def test_a_client_that_leaves_pays_for_what_was_seen_and_its_line_says_that_it_left(
    pipe: Pipe, lines: Lines, events: int
) -> None:
    app = app_of()
    leave(app, pipe, events)
    (line,) = lines()
    cost = (HELLO_TOKENS + 2 * max(0, events - 1)) * NANOUSD_PER_TOKEN
    assert spent_nanousd(app) == cost
    assert (line["status"], line["code"], line["cost_usd"]) == (200, "client_gone", cost / 1e9)
    assert (line["route"], line["run"], line["upstream_status"]) == (CHAT_PATH, RUN, 200)
    assert services_of(app).admission.in_flight == 0


class FailingLedger(MemoryLedger):
    """Reserves, and does not answer when it is to settle."""

    def settle(self, hold: Hold, cost_nanousd: int) -> RunUsage | None:  # noqa: ARG002 - it fails
        raise LedgerUnavailableError


def test_a_ledger_that_fails_at_the_end_spoils_no_answer_and_cannot_tell_the_cost(
    upstream: responses.RequestsMock, lines: Lines
) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    app = app_of(FailingLedger(1200.0))
    reply = stream(app)
    assert reply.data == sse(delta("Hi")) + b"data: [DONE]\n\n"
    kept, line = lines()
    assert (kept["event"], kept["run"]) == ("settlement is kept until the ledger answers", RUN)
    assert line["code"] is None
    assert line["cost_usd"] == kept["cost_usd"] > 0


# --- the log -----------------------------------------------------------------------------------------------


def test_a_stream_is_one_line_written_when_it_is_over(pipe: Pipe, lines: Lines) -> None:
    reply = begin(app_of())
    pieces = reply.iter_encoded()
    next(pieces)
    assert lines() == []
    pipe.hand(answer_of("Hi"))
    assert b"".join(pieces).endswith(COST)
    assert lines() == []
    reply.close()
    (line,) = lines()
    assert (line["code"], line["cost_usd"]) == (None, 0.00000405)


def test_a_streams_line_has_all_that_is_known_of_it(upstream: responses.RequestsMock, lines: Lines) -> None:
    upstream.post(CHAT_URL, body=answer_of("canary-of-the-answer"))
    assert stream(app_of(), messages=[{"role": "user", "content": "canary-of-the-prompt"}]).status_code == 200
    (line,) = lines()
    known = {
        "request_id": REQUEST_ID,
        "method": "POST",
        "route": CHAT_PATH,
        "status": 200,
        "code": None,
        "run": RUN,
        "model": MODEL,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cost_usd": 0.00000405,
        "upstream_status": 200,
    }
    assert {**line, **known} == line


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (answer_of("canary"), None),
        (sse(delta("canary")), "upstream_broken"),
        (sse(delta("canary"), {"error": "canary"}), "upstream_broken"),
        (sse(b"{canary"), "upstream_broken"),
    ],
)
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_prompt_answer_or_key_is_logged(
    upstream: responses.RequestsMock,
    capfd: pytest.CaptureFixture[str],
    body: bytes,
    code: str | None,
    log_format: str,
) -> None:
    upstream.post(CHAT_URL, body=body)
    app = app_of(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format)
    fields = {"messages": [{"role": "user", "content": "canary"}], "user": "canary", "stop": "canary"}
    assert stream(app, **fields).status_code == 200
    chat(app, tools=[{"canary": "canary"}], unknown="canary", canary="canary")
    written = capfd.readouterr().err
    assert CHAT_PATH in written
    assert not code or code in written
    assert [secret for secret in ("canary", CHUTES_KEY, PROXY_KEY) if secret in written] == []
