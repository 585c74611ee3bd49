"""Bodies that need much time: refused by structure, prepared in turn, and limited if they are refused."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import gevent

from ridges_proxy.errors import BodyQueueError, BodyTooComplexError, ClientGoneError, RefusedBytesError
from ridges_proxy.runtime import turn_queue
from ridges_proxy.runtime.json_structure import MAX_MARKS
from ridges_proxy.runtime.turn_queue import Caller
from ridges_proxy.runtime.turns import Watch, unwatched
from ridges_proxy.web import request_body
from tests.contract_http.service import (
    CHAT,
    CHAT_URL,
    HEADERS,
    HELLO,
    MODEL,
    RUN,
    TEXT,
    answer_of,
    app_of,
    sent,
    services_of,
    untouched,
)
from tests.support.app import OPERATOR
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

V1_CHAT: dict[str, Any] = {**CHAT, "model": MODEL}
BODIES: dict[str, dict[str, Any]] = {
    "/agents/inference": CHAT,
    "/agents/embedding": TEXT,
    "/v1/chat/completions": V1_CHAT,
    "/v1/estimate": V1_CHAT,
    "/v1/responses": {**TEXT, "model": MODEL},
    "/v1/embeddings": TEXT,
}
ADDRESS = "address\n127.0.0.1"
SMALL_LIMIT_BYTES = 4_096


def post(app: Flask, path: str, body: object, **headers: str) -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return app.test_client().post(
        path, data=data, content_type="application/json", headers={**HEADERS, **headers}
    )


def code_of(reply: TestResponse) -> str:
    found: dict[str, Any] = json.loads(reply.data)
    return str(found.get("code") or found.get("error", {}).get("code"))


def test_a_body_with_too_many_values_is_413_on_every_route(app: Flask) -> None:
    def check(path: str) -> None:
        reply = post(app, path, {**BODIES[path], "x": [[]] * MAX_MARKS})
        assert (reply.status_code, code_of(reply)) == (413, BodyTooComplexError.code)
        assert BodyTooComplexError.message in reply.text
        assert untouched(app)

    check_rows(BODIES, check)


def test_code_inside_strings_is_never_too_complex(app: Flask, upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, answer_of("ok"))
    code = 'x = {"a": [1, 2, {"b": "\\n"}], "c": f"{d[0]:>{e}}"}\n' * 20_000
    reply = post(app, "/agents/inference", {**CHAT, "messages": [{**HELLO, "content": code}]})
    assert (reply.status_code, reply.json) == (200, "ok")
    assert sent(upstream)["messages"][0]["content"] == code


def recorded_turns(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Caller, int]]:
    """The caller and the size of each turn from now on."""
    recorded: list[tuple[Caller, int]] = []
    do = services_of(app).turns.do

    def recording(
        caller: Caller, step: Callable[[], object], size_bytes: int = 0, watch: Watch = unwatched
    ) -> object:
        recorded.append((caller, size_bytes))
        return do(caller, step, size_bytes, watch)

    monkeypatch.setattr(services_of(app).turns, "do", recording)
    return recorded


def test_only_a_body_that_needs_time_is_prepared_in_a_thread(
    app: Flask, upstream: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = recorded_turns(app, monkeypatch)
    rows: dict[str, tuple[str, bool]] = {
        "short": ("x", False),
        "60 kB of text": ("lorem ipsum " * 5_000, False),
        "70 kB of text": ("lorem ipsum " * 6_000, True),
        "8 kB of lists": ("[]" * 4_000, True),
        "8 kB of escapes": ("\n" * 4_000, True),
        "8 kB of Chinese": ("汉" * 2_700, True),
    }

    def check(name: str) -> None:
        content, in_thread = rows[name]
        turns.clear()
        upstream.post(CHAT_URL, answer_of("ok"))
        body = json.dumps({**CHAT, "messages": [{**HELLO, "content": content}]}, ensure_ascii=False).encode()
        assert post(app, "/agents/inference", body).json == "ok"
        gevent.sleep(0)
        assert (Caller(ADDRESS), len(body)) in turns if in_thread else not turns
        assert (Caller(ADDRESS, RUN), 0) in turns if in_thread else not turns, "the learned counts"

    check_rows(rows, check)


def test_a_run_that_is_only_named_has_its_turns_among_those_of_the_address(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = recorded_turns(app, monkeypatch)
    monkeypatch.setattr(request_body, "MAX_BYTES_ON_THE_HUB", 1)
    post(app, "/v1/estimate", V1_CHAT, **{"X-Run-Id": RUN})
    post(app, "/v1/estimate", V1_CHAT)
    named = Caller(ADDRESS, RUN)
    assert [caller for caller, _ in turns] == [named, named, Caller(ADDRESS), named]


def test_a_run_that_its_token_proves_has_turns_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(RUN_TOKEN_KEY="k" * 32)
    turns = recorded_turns(app, monkeypatch)
    monkeypatch.setattr(request_body, "MAX_BYTES_ON_THE_HUB", 1)
    token = services_of(app).run_tokens.issue(RUN, 600)[0]
    post(app, "/v1/estimate", V1_CHAT, Authorization=f"Bearer {token}")
    assert [caller for caller, _ in turns] == [Caller(RUN, RUN)] * 2


def test_a_body_that_waits_too_long_for_its_turn_is_503_and_may_be_retried(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "MAX_BYTES_ON_THE_HUB", 1)
    services_of(app).turns._busy, services_of(app).turns._wait_seconds = True, 0.01

    def check(path: str) -> None:
        reply = post(app, path, BODIES[path])
        assert (reply.status_code, code_of(reply)) == (503, BodyQueueError.code)
        assert reply.headers["Retry-After"] == "2"
        assert untouched(app)

    check_rows(BODIES, check)


def test_a_body_of_a_client_that_has_left_waits_no_longer(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "MAX_BYTES_ON_THE_HUB", 1)
    turns = services_of(app).turns
    turns._busy = True

    def check(path: str) -> None:
        server_side, client_side = socket.socketpair()
        client_side.close()
        with server_side, gevent.Timeout(10):
            reply = app.test_client().post(
                path, json=BODIES[path], headers=HEADERS, environ_overrides={"gunicorn.socket": server_side}
            )
        assert (reply.status_code, code_of(reply)) == (499, ClientGoneError.code)
        assert (list(turns._queue), turns._queue.waiting_bytes) == ([], 0)
        assert untouched(app)

    check_rows(BODIES, check)


def test_a_neighbours_body_is_not_refused_for_those_of_one_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_of(TRUSTED_PROXY_COUNT="1")
    monkeypatch.setattr(request_body, "MAX_BYTES_ON_THE_HUB", 1)
    monkeypatch.setattr(turn_queue, "WAITING_BYTES", 4 * len(json.dumps(V1_CHAT)))
    turns = services_of(app).turns
    turns._busy = True

    def waiting(address: str, run_id: str) -> gevent.Greenlet[..., TestResponse]:
        """A request that waits. The network of a caller counts, and each has many addresses."""
        headers = {"X-Forwarded-For": address, "X-Run-Id": run_id}
        started = gevent.spawn(post, app, "/v1/estimate", {**V1_CHAT, "run_id": run_id}, **headers)
        gevent.idle()
        return started

    greedy = [waiting(f"2001:db8::{number}", f"run-{number:011}") for number in range(8)]
    neighbour = waiting("2001:db8:0:1::1", "a-neighbour-001")
    refused = [each.value for each in greedy if each.ready()]
    assert {code_of(reply) for reply in refused if reply} == {BodyQueueError.code}
    assert len(refused) == 5
    assert not neighbour.ready()
    turns._pass_on()
    gevent.joinall([*greedy, neighbour], 20, raise_error=True)
    assert neighbour.value
    assert neighbour.value.status_code == 200


def test_refused_requests_are_429_when_their_bytes_reach_the_limit() -> None:
    def check(path: str) -> None:
        app = app_of(MAX_BODY_BYTES=str(SMALL_LIMIT_BYTES))
        invalid = b"{" + b" " * (SMALL_LIMIT_BYTES - 1)
        for _ in range(32):
            assert post(app, path, invalid).status_code in {400, 422}
        reply = post(app, path, invalid)
        assert (reply.status_code, code_of(reply)) == (429, RefusedBytesError.code)
        assert 50 < int(reply.headers["Retry-After"]) <= 60
        other = post(app, path, invalid, **{"X-Run-Id": "another run"})
        assert other.status_code in {400, 422}, "another run has its own limit"
        assert untouched(app)

    check_rows(BODIES, check)


def test_a_refused_call_counts_for_the_run_that_its_body_names() -> None:
    app = app_of(MAX_BODY_BYTES=str(SMALL_LIMIT_BYTES), MAX_COST_PER_RUN="0.00001")
    refused_bytes = services_of(app).refused_bytes
    reply = post(app, "/v1/chat/completions", V1_CHAT)
    assert reply.status_code == 402
    assert list(refused_bytes._windows) == [RUN]
    answered = post(app, "/agents/inference", CHAT)
    assert answered.status_code == 200, "the text by which agents know that the budget is exhausted"
    assert refused_bytes._windows[RUN].size_bytes == len(json.dumps(V1_CHAT)) + len(json.dumps(CHAT))


def test_the_limit_applies_to_a_run_that_only_the_body_names() -> None:
    app = app_of()
    services_of(app).refused_bytes.add(RUN, 1 << 30)
    assert code_of(post(app, "/v1/estimate", V1_CHAT)) == RefusedBytesError.code
    assert post(app, "/v1/estimate", {**V1_CHAT, "run_id": "another run"}).status_code == 200


def test_answered_calls_and_those_that_may_be_retried_do_not_count(
    app: Flask, upstream: responses.RequestsMock
) -> None:
    upstream.post(CHAT_URL, answer_of("ok"))
    assert post(app, "/agents/inference", CHAT).status_code == 200
    services_of(app).admission.close()
    assert post(app, "/agents/inference", CHAT).status_code == 503
    assert not services_of(app).refused_bytes.is_used


def test_an_invalid_body_of_an_operator_is_422_and_does_not_count() -> None:
    app = app_of()
    reply = app.test_client().post("/admin/runs", json={"run_id": ""}, headers=OPERATOR)
    assert (reply.status_code, code_of(reply)) == (422, "invalid_request")
    assert not services_of(app).refused_bytes.is_used
