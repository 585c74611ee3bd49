"""Who may call: by key (401), and by address (403)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract_http.service import (
    CHAT,
    CHAT_URL,
    HEADERS,
    REQUEST_ID,
    answer_of,
    app_of,
    envelope,
    seen,
    untouched,
)
from tests.support.app import ADMIN_KEY, CHUTES_KEY, PROXY_KEY

if TYPE_CHECKING:
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

NO_KEY = (401, envelope("Invalid API key", "invalid_api_key"))
NO_ADDRESS = (403, envelope("IP not allowed", "ip_not_allowed"))
USAGE = "/agents/usage?run_id=1"
PREVIOUS_KEY = "the-key-before-this-one-of-the-tests"


class Unreadable:
    """A body that nobody may look at."""

    def read(self, _size_bytes: int = -1) -> bytes:
        raise AssertionError


def call(app: Flask, path: str, method: str = "POST", **environ: Any) -> TestResponse:  # noqa: ANN401 - WSGI's environ
    environ.setdefault("HTTP_X_REQUEST_ID", REQUEST_ID)
    return app.test_client().open(path, method=method, environ_overrides=environ)


def call_from(app: Flask, address: str | None, forwarded_for: str | None = None) -> TestResponse:
    """Ask for a run's usage from an address, by way of those in X-Forwarded-For."""
    environ = {"REMOTE_ADDR": address}
    if forwarded_for is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded_for
    return app.test_client().get(USAGE, headers=HEADERS, environ_overrides=environ)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/agents/inference"), ("POST", "/agents/embedding"), ("GET", USAGE), ("HEAD", USAGE)],
)
def test_every_route_of_the_agents_needs_the_key(app: Flask, method: str, path: str) -> None:
    reply = call(app, path, method)
    assert reply.status_code == 401
    assert method == "HEAD" or seen(reply) == NO_KEY
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert reply.content_type == "application/json"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="empty"),
        pytest.param("Bearer", id="scheme_alone"),
        pytest.param("Bearer ", id="empty_token"),
        pytest.param("Bearer    ", id="spaces_as_token"),
        pytest.param("Bearer wrong", id="wrong"),
        pytest.param(f"Bearer {PROXY_KEY[:-1]}", id="prefix_of_the_key"),
        pytest.param(f"Bearer {PROXY_KEY}x", id="key_as_prefix"),
        pytest.param(f"Bearer {PROXY_KEY.upper()}", id="upper_case"),
        pytest.param(f"Bearer {PROXY_KEY} {PROXY_KEY}", id="twice"),
        pytest.param(f"Bearer {PROXY_KEY}, Bearer {PROXY_KEY}", id="two_headers_joined"),
        pytest.param(f'Bearer "{PROXY_KEY}"', id="quoted"),
        pytest.param(f"Bearer{PROXY_KEY}", id="no_space"),
        pytest.param(PROXY_KEY, id="no_scheme"),
        pytest.param(f" Bearer {PROXY_KEY}x", id="space_in_front"),
        pytest.param(f"Basic {PROXY_KEY}", id="basic"),
        pytest.param("Basic OnByb3h5LWtleS1vZi10aGUtdGVzdHM=", id="basic_with_the_key_as_password"),
        pytest.param(f"Token {PROXY_KEY}", id="another_scheme"),
        pytest.param("Bearer \xe9\xff", id="latin_1"),
        pytest.param("Bearer \xf0\x9f\x98\x80", id="utf_8"),
        pytest.param("Bearer \x00", id="nul"),
        pytest.param(f"Bearer {'x' * 100_000}", id="very_long"),
        pytest.param(f"Bearer {ADMIN_KEY}", id="the_operators_key"),
        pytest.param(f"Bearer {CHUTES_KEY}", id="the_upstreams_key"),
    ],
)
def test_anything_but_the_key_is_refused(app: Flask, header: str) -> None:
    reply = call(app, USAGE, "GET", HTTP_AUTHORIZATION=header)
    assert seen(reply) == NO_KEY


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "BeArEr ", "Bearer   "])
def test_the_schemes_case_and_spaces_do_not_matter(app: Flask, scheme: str) -> None:
    reply = call(app, USAGE, "GET", HTTP_AUTHORIZATION=f"{scheme}{PROXY_KEY}")
    assert reply.status_code == 200


@pytest.mark.parametrize("place", ["/agents/usage?run_id=1&api_key={}", "/agents/usage?run_id=1&key={}"])
def test_a_key_in_the_query_is_no_key(app: Flask, place: str) -> None:
    assert seen(call(app, place.format(PROXY_KEY), "GET")) == NO_KEY


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"wsgi.input": Unreadable(), "CONTENT_LENGTH": "5"}, id="unreadable"),
        pytest.param({"CONTENT_LENGTH": str(10**12)}, id="too_large"),
        pytest.param({"CONTENT_LENGTH": "-1"}, id="odd_length"),
        pytest.param({"CONTENT_TYPE": "text/plain"}, id="wrong_type"),
    ],
)
def test_a_missing_key_is_told_before_the_body_is_looked_at(app: Flask, environ: dict[str, Any]) -> None:
    assert seen(call(app, "/agents/inference", **environ)) == NO_KEY


def test_a_refused_caller_leaves_no_trace(app: Flask, upstream: responses.RequestsMock) -> None:
    app.test_client().post("/agents/inference", json=CHAT)
    assert len(upstream.calls) == 0
    assert untouched(app)


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::1", "::ffff:203.0.113.9", "", "unix:"])
def test_without_a_list_every_address_is_allowed(app: Flask, address: str) -> None:
    assert call_from(app, address).status_code == 200


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9", "::ffff:203.0.113.9"),
        ("203.0.113.9/32", "203.0.113.9"),
        ("203.0.113.0/24", "203.0.113.255"),
        ("203.0.113.0/24", "::ffff:203.0.113.1"),
        ("198.51.100.1,203.0.113.9", "203.0.113.9"),
        (" 198.51.100.1 , 203.0.113.9 ,", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::1", "2001:0DB8:0:0::0001"),
        ("2001:db8::/32", "2001:db8:ffff::9"),
        ("fe80::/10", "fe80::1%eth0"),
        ("203.0.113.0/24,2001:db8::/32", "2001:db8::1"),
        ("0.0.0.0/0", "203.0.113.9"),
        ("::/0", "2001:db8::1"),
    ],
)
def test_an_address_on_the_list_is_allowed(allowed: str, address: str) -> None:
    assert call_from(app_of(ALLOWED_IPS=allowed), address).status_code == 200


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        ("203.0.113.9", "203.0.113.90"),
        ("203.0.113.9", "203.0.113.8"),
        ("203.0.113.0/24", "203.0.114.0"),
        ("203.0.113.9", "::ffff:203.0.113.8"),
        ("203.0.113.9", "::cb00:7109"),
        ("203.0.113.9", "2001:db8::1"),
        ("2001:db8::/32", "2001:db9::1"),
        ("2001:db8::/32", "203.0.113.9"),
        ("0.0.0.0/0", "2001:db8::1"),
        ("::/0", "203.0.113.9"),
        ("203.0.113.9", ""),
        ("203.0.113.9", None),
        ("203.0.113.9", "unix:"),
        ("203.0.113.9", "203.0.113.009"),
        ("203.0.113.9", "203.0.113.9%eth0"),
        ("203.0.113.9", "203.0.113.9:80"),
        ("203.0.113.9", "3405803785"),
        ("203.0.113.9", " 203.0.113.9 "),
    ],
)
def test_an_address_that_is_not_on_the_list_is_refused(allowed: str, address: str | None) -> None:
    assert seen(call_from(app_of(ALLOWED_IPS=allowed), address)) == NO_ADDRESS


def test_a_refused_address_spends_nothing(upstream: responses.RequestsMock) -> None:
    app = app_of(ALLOWED_IPS="203.0.113.9")
    reply = app.test_client().post("/agents/inference", json=CHAT, headers=HEADERS)
    assert seen(reply) == NO_ADDRESS
    assert len(upstream.calls) == 0
    assert untouched(app)


def test_the_key_is_asked_for_before_the_address() -> None:
    app = app_of(ALLOWED_IPS="203.0.113.9")
    assert seen(call(app, USAGE, "GET", REMOTE_ADDR="198.51.100.1")) == NO_KEY


@pytest.mark.parametrize(
    ("count", "peer", "forwarded_for", "status"),
    [
        pytest.param(0, "203.0.113.9", None, 200, id="0_direct"),
        pytest.param(0, "203.0.113.9", "198.51.100.1", 200, id="0_header_ignored"),
        pytest.param(0, "198.51.100.1", "203.0.113.9", 403, id="0_forged"),
        pytest.param(1, "10.0.0.1", "203.0.113.9", 200, id="1_by_the_proxy"),
        pytest.param(1, "10.0.0.1", "198.51.100.1", 403, id="1_another_client"),
        pytest.param(1, "10.0.0.1", "203.0.113.9, 198.51.100.1", 403, id="1_forged_in_front"),
        pytest.param(1, "10.0.0.1", "198.51.100.1, 203.0.113.9", 200, id="1_noise_in_front"),
        pytest.param(1, "10.0.0.1", "nonsense,,203.0.113.9", 200, id="1_garbage_in_front"),
        pytest.param(1, "10.0.0.1", None, 403, id="1_no_header"),
        pytest.param(1, "10.0.0.1", "", 403, id="1_empty_header"),
        pytest.param(1, "203.0.113.9", "198.51.100.1", 403, id="1_the_proxys_own_address_is_not_asked"),
        pytest.param(1, "10.0.0.1", "203.0.113.9:4711", 403, id="1_with_a_port"),
        pytest.param(1, "10.0.0.1", "[2001:db8::1]:4711", 403, id="1_ipv6_with_a_port"),
        pytest.param(1, "10.0.0.1", "2001:db8::1", 200, id="1_ipv6"),
        pytest.param(1, "10.0.0.1", "::ffff:203.0.113.9", 200, id="1_mapped"),
        pytest.param(1, "10.0.0.1", "unknown", 403, id="1_unknown"),
        pytest.param(1, "10.0.0.1", "203.0.113.9, unix:", 403, id="1_by_a_unix_socket"),
        pytest.param(1, "10.0.0.1", "203.0.113.9 198.51.100.1", 403, id="1_space_for_comma"),
        pytest.param(1, "10.0.0.1", "\xff", 403, id="1_latin_1"),
        pytest.param(2, "10.0.0.1", "203.0.113.9, 10.0.0.2", 200, id="2_by_both_proxies"),
        pytest.param(2, "10.0.0.1", "198.51.100.1, 10.0.0.2", 403, id="2_another_client"),
        pytest.param(2, "10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2", 403, id="2_forged_in_front"),
        pytest.param(2, "10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2", 200, id="2_noise_in_front"),
        pytest.param(2, "10.0.0.1", "203.0.113.9", 403, id="2_only_one_hop"),
        pytest.param(2, "10.0.0.1", '203.0.113.9, "x, 198.51.100.1, 10.0.0.2', 403, id="2_forged_by_a_quote"),
        pytest.param(1, "10.0.0.1", '"203.0.113.9", 198.51.100.1', 403, id="1_quoted_in_front"),
        pytest.param(1, "10.0.0.1", '203.0.113.9, "x, 198.51.100.1', 403, id="1_forged_by_a_quote"),
        pytest.param(0, "203.0.113.9", '"', 200, id="0_quote_ignored"),
    ],
)
def test_behind_proxies_the_address_is_the_one_that_the_outermost_of_ours_saw(
    count: int, peer: str, forwarded_for: str | None, status: int
) -> None:
    app = app_of(TRUSTED_PROXY_COUNT=str(count), ALLOWED_IPS="203.0.113.9,2001:db8::1")
    assert call_from(app, peer, forwarded_for).status_code == status


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("forged", ['"', '"x', '203.0.113.9, "', '"203.0.113.9"', 'x"y', '"\\"'])
def test_a_quote_does_not_hide_a_caller_behind_the_address_of_our_proxy(count: int, forged: str) -> None:
    app = app_of(TRUSTED_PROXY_COUNT=str(count), ALLOWED_IPS="10.0.0.0/8")
    added = ["", "198.51.100.1", "10.0.0.2"][: count + 1]
    assert seen(call_from(app, "10.0.0.1", forged + ", ".join(added))) == NO_ADDRESS


@pytest.mark.parametrize("forwarded_for", ["198.51.100.1", "10.0.0.1", ""])
def test_who_goes_round_the_outer_proxy_is_not_taken_for_the_inner_one(forwarded_for: str) -> None:
    app = app_of(TRUSTED_PROXY_COUNT="2", ALLOWED_IPS="10.0.0.0/8")
    known = forwarded_for == ""  # by way of no proxy at all: the nearest peer is who it is
    assert call_from(app, "10.0.0.1", forwarded_for).status_code == (200 if known else 403)


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_monitors_need_neither_a_key_nor_an_allowed_address(path: str) -> None:
    app = app_of(ALLOWED_IPS="203.0.113.9")
    reply = call(app, path, "GET", REMOTE_ADDR="198.51.100.1")
    assert reply.status_code in {200, 503}
    assert seen(reply)[1]["status"] in {"healthy", "not_ready"}


def test_an_allowed_caller_is_answered(upstream: responses.RequestsMock) -> None:
    app = app_of(ALLOWED_IPS="203.0.113.9")
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    reply = app.test_client().post(
        "/agents/inference", json=CHAT, headers=HEADERS, environ_overrides={"REMOTE_ADDR": "203.0.113.9"}
    )
    assert seen(reply) == (200, "Hi")


# --- keys that change ---------------------------------------------------------------------------------------


def test_while_a_key_changes_both_are_taken() -> None:
    app = app_of(PROXY_API_KEY_PREVIOUS="the-key-before", ADMIN_API_KEY_PREVIOUS="the-admin-key-before")
    for path, keys in {
        "/v1/models": (PROXY_KEY, "the-key-before"),
        "/admin/runs": (ADMIN_KEY, "the-admin-key-before"),
    }.items():
        for key in keys:
            reply = app.test_client().get(path, headers={"Authorization": f"Bearer {key}"})
            assert reply.status_code == 200
    for path, key in {"/v1/models": "the-admin-key-before", "/admin/runs": "the-key-before"}.items():
        reply = app.test_client().get(path, headers={"Authorization": f"Bearer {key}"})
        assert reply.status_code == 401


def test_where_tokens_are_required_the_key_before_is_shut_out_too() -> None:
    app = app_of(REQUIRE_RUN_TOKENS="1", RUN_TOKEN_KEY="k" * 32, PROXY_API_KEY_PREVIOUS="the-key-before")
    reply = app.test_client().get("/v1/models", headers={"Authorization": "Bearer the-key-before"})
    assert reply.status_code == 401


@pytest.mark.parametrize(
    "key", [PROXY_KEY, PROXY_KEY[:-1], "x", "", PREVIOUS_KEY], ids=lambda key: f"{len(key)}"
)
def test_every_key_is_compared_whole_whatever_is_given(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """So the time that it takes tells neither how much of a key is right, nor its length, nor which it is."""
    app = app_of(PROXY_API_KEY_PREVIOUS=PREVIOUS_KEY)
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def note(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", note)
    app.test_client().get("/agents/usage?run_id=a", headers={"Authorization": f"Bearer {key}"})
    assert compared == [(32, 32), (32, 32)]
