from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from ridges_proxy.errors import UpstreamUnreachableError
from ridges_proxy.upstream import Attempt
from tests.contract_http.service import (
    CAP_NANOUSD,
    CHAT_URL,
    EMBED_URL,
    HEADERS,
    RUN,
    answer_of,
    app_of,
    embed,
    hold_of,
    infer,
    services_of,
    spend,
    usage,
)
from tests.support.app import ADMIN_KEY, OPERATOR
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

    from ridges_proxy.ledger import Hold

INVALID_KEY = {"Authorization": "Bearer no-such-key"}


def rate_limit_of(reply: TestResponse) -> tuple[str | None, ...]:
    return tuple(reply.headers.get(f"RateLimit-{name}") for name in ("Limit", "Remaining", "Policy"))


def ask(app: Flask, address: str, **headers: str) -> TestResponse:
    return app.test_client().get(
        "/v1/models", headers={**HEADERS, **headers}, environ_base={"REMOTE_ADDR": address}
    )


@pytest.fixture
def answering(upstream: responses.RequestsMock) -> None:
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    upstream.post(EMBED_URL, body=b"[]")


def delays_of(app: Flask) -> list[float]:
    """The delays of responses to invalid keys. From now on they are only recorded."""
    delays: list[float] = []
    services_of(app).key_throttle._sleep = delays.append
    return delays


@pytest.mark.usefixtures("answering")
def test_a_run_with_too_many_calls_gets_a_429_with_retry_after() -> None:
    app = app_of(RATE_LIMIT_PER_RUN="2/minute")
    assert rate_limit_of(infer(app)) == ("2", "1", "2;w=60")
    assert rate_limit_of(embed(app)) == ("2", "0", "2;w=60")
    refused = infer(app)
    assert (refused.status_code, refused.get_json()["code"]) == (429, "rate_limited")
    assert refused.get_json()["detail"] == "The run makes too many calls: try again after Retry-After seconds"
    assert rate_limit_of(refused) == ("2", "0", "2;w=60")
    assert refused.headers["Retry-After"] == refused.headers["RateLimit-Reset"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert infer(app, run_id="another").status_code == 200
    run = services_of(app).ledger.usage(RUN)
    assert run
    assert (run.calls, run.held_nanousd) == (2, 0)


def test_all_connections_of_a_client_count_together_where_a_proxy_adds_its_port() -> None:
    def check(addresses: tuple[str, str, str]) -> None:
        app = app_of(RATE_LIMIT_PER_IP="2/minute", TRUSTED_PROXY_COUNT="1")
        found = [ask(app, "10.0.0.1", **{"X-Forwarded-For": address}).status_code for address in addresses]
        assert found == [200, 200, 429]

    rows = [
        ("203.0.113.9:1", "203.0.113.9:2", "203.0.113.9"),
        ("[2001:db8::1]:1", "[2001:db8::2]:2", "2001:db8::3"),
    ]
    check_rows(rows, check)


@pytest.mark.usefixtures("answering")
def test_requests_without_a_call_do_not_count_for_the_run() -> None:
    app = app_of(RATE_LIMIT_PER_RUN="1/minute")
    for _ in range(3):
        assert infer(app, messages=[]).status_code == 422
        assert rate_limit_of(usage(app)) == (None, None, None)
    assert infer(app, model="no-such-model").status_code == 200
    assert infer(app).status_code == 200


@pytest.mark.usefixtures("answering")
def test_calls_that_are_refused_for_their_run_do_not_count() -> None:
    def check(row: tuple[str, int, str]) -> None:
        code, held_nanousd, in_flight = row
        app = app_of(
            RATE_LIMIT_PER_RUN="1/minute", HOLD_WAIT_SECONDS="0", MAX_CONCURRENT_CALLS_PER_RUN=in_flight
        )
        hold = hold_of(app, held_nanousd)
        for _ in range(3):
            refused = infer(app)
            assert refused.get_json()["code"] == code
            assert rate_limit_of(refused) == ("1", "1", "1;w=60")
        services_of(app).ledger.release(hold)
        assert infer(app).status_code == 200
        assert infer(app).get_json()["code"] == "rate_limited"

    check_rows([("too_many_in_flight", 0, "1"), ("run_busy", CAP_NANOUSD, "32")], check)


@pytest.mark.usefixtures("answering")
def test_calls_of_an_exhausted_run_do_not_count() -> None:
    app = app_of(RATE_LIMIT_PER_RUN="1/minute")
    spend(app, CAP_NANOUSD)
    assert all("error" in infer(app).get_json() for _ in range(3))
    services_of(app).ledger.reset(RUN)
    assert infer(app).get_json() == "Hi"


@pytest.mark.usefixtures("answering")
def test_a_call_whose_circuit_opens_before_it_is_sent_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(RATE_LIMIT_PER_RUN="1/minute", CIRCUIT_FAILURES="1", CIRCUIT_OPEN_SECONDS="0.1")
    calls, ledger = services_of(app).calls, services_of(app).ledger
    reserve, attempt = ledger.reserve, Attempt()

    def reserve_while_the_circuit_opens(*args: Any) -> Hold:  # noqa: ANN401 - passed on
        hold = reserve(*args)
        with (
            suppress(UpstreamUnreachableError),
            calls.circuits.guard(calls.settings.default_model, "other", attempt),
        ):
            raise UpstreamUnreachableError
        return hold

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "reserve", reserve_while_the_circuit_opens)
        refused = infer(app)
    assert refused.get_json()["code"] == "upstream_down"
    assert rate_limit_of(refused) == ("1", "1", "1;w=60")
    time.sleep(0.11)
    assert infer(app).status_code == 200
    assert infer(app).get_json()["code"] == "rate_limited"


def test_on_v1_the_refusal_has_openais_error_body() -> None:
    app = app_of(RATE_LIMIT_PER_IP="1/minute")
    assert ask(app, "203.0.113.9").status_code == 200
    refused = ask(app, "203.0.113.9")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "rate_limited")
    assert refused.get_json()["error"]["message"] == "Too many requests come from this address"
    assert rate_limit_of(refused) == ("1", "0", "1;w=60")


def test_a_limit_counts_each_address_separately() -> None:
    app = app_of(RATE_LIMIT_PER_IP="1/minute")
    assert [ask(app, "203.0.113.9").status_code for _ in range(2)] == [200, 429]
    assert ask(app, "203.0.113.10").status_code == 200
    assert ask(app, "::ffff:203.0.113.9").status_code == 429, "the same, on a dual-stack listener"


def test_an_ipv6_network_counts_as_one_address() -> None:
    app = app_of(RATE_LIMIT_PER_IP="1/minute")
    assert ask(app, "2001:db8::1").status_code == 200
    assert ask(app, "2001:db8::ffff:1").status_code == 429
    assert ask(app, "2001:db8:0:1::1").status_code == 200


def test_behind_a_proxy_the_callers_own_address_counts() -> None:
    app = app_of(RATE_LIMIT_PER_IP="1/minute", TRUSTED_PROXY_COUNT="1")
    assert ask(app, "10.0.0.1", **{"X-Forwarded-For": "203.0.113.9"}).status_code == 200
    assert ask(app, "10.0.0.1", **{"X-Forwarded-For": "203.0.113.10"}).status_code == 200
    assert ask(app, "10.0.0.1", **{"X-Forwarded-For": "203.0.113.7, 203.0.113.9"}).status_code == 429


def test_all_callers_with_an_unknown_address_share_one_limit() -> None:
    app = app_of(RATE_LIMIT_PER_IP="1/minute", TRUSTED_PROXY_COUNT="1")
    hidden = {"X-Forwarded-For": '"203.0.113.9'}
    assert [ask(app, "10.0.0.1", **hidden).status_code for _ in range(2)] == [200, 429]
    assert ask(app, "10.0.0.2", **hidden).status_code == 429
    assert ask(app, "10.0.0.1").status_code == 200


def test_a_request_with_an_invalid_key_does_not_count() -> None:
    app = app_of(RATE_LIMIT_PER_IP="1/minute")
    delays = delays_of(app)
    for _ in range(12):
        assert ask(app, "203.0.113.9", **INVALID_KEY).status_code == 401
    assert len(delays) == 2
    assert ask(app, "203.0.113.9").status_code == 200


def test_invalid_keys_are_delayed_and_valid_ones_from_the_same_address_are_not() -> None:
    app = app_of()
    delays = delays_of(app)
    for path in ("/v1/models", "/agents/usage?run_id=r", "/admin/runs", "/metrics") * 3:
        assert app.test_client().get(path, headers=INVALID_KEY).status_code == 401
    assert delays == [1.0, 1.0]
    assert app.test_client().get("/v1/models", headers=HEADERS).status_code == 200
    assert app.test_client().get("/admin/runs", headers=OPERATOR).status_code == 200
    assert len(delays) == 2
    assert ADMIN_KEY not in INVALID_KEY["Authorization"]


def test_monitors_and_preflights_are_not_limited() -> None:
    app = app_of(RATE_LIMIT_PER_IP="1/minute")
    for _ in range(3):
        assert app.test_client().get("/health").status_code == 200
        assert app.test_client().options("/v1/models").status_code == 200
