"""The cost and the log line of a stream on `/v1` after its end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

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
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import responses
    from flask import Flask

    from tests.contract_http.pipe import Pipe

    Lines = Callable[[], list[dict[str, Any]]]

# --- the end of a stream -----------------------------------------------------------------------------------


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def leave(app: Flask, pipe: Pipe, events: int) -> None:
    """Read some pieces, then close the answer as the server does for a client that has left."""
    pipe.hand(sse(delta("ab")))
    reply = begin(app)
    pieces = reply.iter_encoded()
    for number in range(events):
        if number:
            pipe.hand(sse(delta("ab")))
        next(pieces)
    reply.close()


PAUSE_TOKENS = 900
"""Tokens that may be generated while the client leaves: a thousand are assumed for each second."""


@pytest.mark.parametrize("events", [0, 1, 2, 4])
def test_a_client_that_leaves_is_charged_for_the_events_so_far_and_logged(
    pipe: Pipe, lines: Lines, events: int
) -> None:
    app = app_of()
    leave(app, pipe, events)
    (line,) = lines()
    least = (HELLO_TOKENS + 2 * max(1, events)) * NANOUSD_PER_TOKEN
    cost = spent_nanousd(app)
    assert cost is not None
    assert least <= cost <= least + PAUSE_TOKENS * NANOUSD_PER_TOKEN
    assert (line["status"], line["code"], line["cost_usd"]) == (200, "client_gone", cost / 1e9)
    assert (line["route"], line["run"], line["upstream_status"]) == (CHAT_PATH, RUN, 200)
    assert services_of(app).admission.in_flight == 0


class FailingLedger(MemoryLedger):
    """Reserves, but fails to settle."""

    def settle(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise LedgerUnavailableError


def test_an_answer_is_complete_without_its_cost_if_the_ledger_fails_at_the_end(
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


def test_a_stream_is_logged_in_one_line_after_its_end(pipe: Pipe, lines: Lines) -> None:
    pipe.hand(sse(delta("Oh")))
    reply = begin(app_of())
    pieces = reply.iter_encoded()
    assert lines() == []
    pipe.hand(answer_of("Hi"))
    assert b"".join(pieces).endswith(COST)
    assert lines() == []
    reply.close()
    (line,) = lines()
    assert (line["code"], line["cost_usd"]) == (None, 0.00000405)


def test_the_line_of_a_stream_has_all_known_facts(upstream: responses.RequestsMock, lines: Lines) -> None:
    upstream.post(CHAT_URL, body=answer_of("canary-of-the-answer"))
    assert stream(app_of(), messages=[{"role": "user", "content": "canary-of-the-prompt"}]).status_code == 200
    (line,) = lines()
    expected = {
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
    assert {**line, **expected} == line


STREAMS: list[tuple[bytes, str | None]] = [
    (answer_of("canary"), None),
    (sse(delta("canary")), "upstream_broken"),
    (sse(delta("canary"), {"error": "canary"}), "upstream_broken"),
    (sse(b"{canary"), "upstream_broken"),
]


def test_no_prompt_answer_or_key_is_logged(
    upstream: responses.RequestsMock, capfd: pytest.CaptureFixture[str]
) -> None:
    def check(row: tuple[str, bytes, str | None]) -> None:
        log_format, body, code = row
        upstream.reset()
        upstream.post(CHAT_URL, body=body)
        app = app_of(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format)
        fields = {"messages": [{"role": "user", "content": "canary"}], "user": "canary", "stop": "canary"}
        stream(app, **fields)
        chat(app, tools=[{"canary": "canary"}], unknown="canary", canary="canary")
        written = capfd.readouterr().err
        assert CHAT_PATH in written
        assert not code or code in written
        assert [secret for secret in ("canary", CHUTES_KEY, PROXY_KEY) if secret in written] == []

    check_rows([(log_format, *row) for log_format in ("json", "text") for row in STREAMS], check)
