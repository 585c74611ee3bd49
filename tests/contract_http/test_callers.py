"""Authentication of callers: by key (401), and by address (403)."""

from __future__ import annotations

import hmac
from itertools import product
from typing import TYPE_CHECKING, Any

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
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest
    import responses
    from flask import Flask
    from werkzeug.test import TestResponse

KEY_REFUSED = "A run token may have expired, or its run is closed: the server's log has the reason"
WRONG_KEY = (401, envelope("Invalid API key", "invalid_api_key", hint=KEY_REFUSED))
KEY_MISSING = "The request has no key: send Authorization: Bearer KEY"
NO_KEY = (401, envelope("Invalid API key", "invalid_api_key", hint=KEY_MISSING))
NO_ADDRESS = (403, envelope("IP not allowed", "ip_not_allowed"))
USAGE = "/agents/usage?run_id=1"
PREVIOUS_KEY = "the-key-before-this-one-of-the-tests"


WITHOUT_A_KEY = {
    "empty",
    "scheme_alone",
    "empty_token",
    "spaces_as_token",
    "no_space",
    "no_scheme",
    "space_in_front",
    "basic",
    "basic_with_the_key_as_password",
    "another_scheme",
}


class Unreadable:
    """A body that fails the test if it is read."""

    def read(self, _size_bytes: int = -1) -> bytes:
        raise AssertionError


def call(app: Flask, path: str, method: str = "POST", **environ: Any) -> TestResponse:  # noqa: ANN401 - WSGI's environ
    environ.setdefault("HTTP_X_REQUEST_ID", REQUEST_ID)
    return app.test_client().open(path, method=method, environ_overrides=environ)


def call_from(app: Flask, address: str | None, forwarded_for: str | None = None) -> TestResponse:
    """Ask for a run's usage from an address, with an X-Forwarded-For."""
    environ = {"REMOTE_ADDR": address}
    if forwarded_for is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded_for
    return app.test_client().get(USAGE, headers=HEADERS, environ_overrides=environ)


def test_every_agents_route_needs_the_key() -> None:
    def check(row: tuple[str, str]) -> None:
        method, path = row
        reply = call(app_of(), path, method)
        assert reply.status_code == 401
        assert method == "HEAD" or seen(reply) == NO_KEY
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert reply.content_type == "application/json"

    posts = ["/agents/inference", "/agents/embedding", "/api/inference", "/api/embedding"]
    gets = [USAGE, "/api/usage?evaluation_run_id=1"]
    rows = [*(("POST", path) for path in posts), *(("GET", path) for path in gets), ("HEAD", USAGE)]
    check_rows(rows, check)


def test_anything_but_the_key_is_refused() -> None:
    def check(row: tuple[str, str]) -> None:
        name, header = row
        reply = call(app_of(), USAGE, "GET", HTTP_AUTHORIZATION=header)
        assert seen(reply) == (NO_KEY if name in WITHOUT_A_KEY else WRONG_KEY)

    rows = {
        "empty": "",
        "scheme_alone": "Bearer",
        "empty_token": "Bearer ",
        "spaces_as_token": "Bearer    ",
        "wrong": "Bearer wrong",
        "prefix_of_the_key": f"Bearer {PROXY_KEY[:-1]}",
        "key_as_prefix": f"Bearer {PROXY_KEY}x",
        "upper_case": f"Bearer {PROXY_KEY.upper()}",
        "twice": f"Bearer {PROXY_KEY} {PROXY_KEY}",
        "two_headers_joined": f"Bearer {PROXY_KEY}, Bearer {PROXY_KEY}",
        "quoted": f'Bearer "{PROXY_KEY}"',
        "no_space": f"Bearer{PROXY_KEY}",
        "no_scheme": PROXY_KEY,
        "space_in_front": f" Bearer {PROXY_KEY}x",
        "basic": f"Basic {PROXY_KEY}",
        "basic_with_the_key_as_password": "Basic OnByb3h5LWtleS1vZi10aGUtdGVzdHM=",
        "another_scheme": f"Token {PROXY_KEY}",
        "latin_1": "Bearer \xe9\xff",
        "utf_8": "Bearer \xf0\x9f\x98\x80",
        "nul": "Bearer \x00",
        "very_long": f"Bearer {'x' * 100_000}",
        "the_operators_key": f"Bearer {ADMIN_KEY}",
        "the_upstreams_key": f"Bearer {CHUTES_KEY}",
    }
    check_rows(rows.items(), check)


def test_the_schemes_case_and_spaces_do_not_matter(app: Flask) -> None:
    def check(scheme: str) -> None:
        reply = call(app, USAGE, "GET", HTTP_AUTHORIZATION=f"{scheme}{PROXY_KEY}")
        assert reply.status_code == 200

    check_rows(["Bearer ", "bearer ", "BEARER ", "BeArEr ", "Bearer   "], check)


def test_a_key_in_the_query_is_not_accepted() -> None:
    def check(parameter: str) -> None:
        assert seen(call(app_of(), f"/agents/usage?run_id=1&{parameter}={PROXY_KEY}", "GET")) == NO_KEY

    check_rows(["api_key", "key"], check)


def test_a_missing_key_is_reported_before_the_body_is_read() -> None:
    def check(row: tuple[str, dict[str, Any]]) -> None:
        _, environ = row
        assert seen(call(app_of(), "/agents/inference", **environ)) == NO_KEY

    rows: dict[str, dict[str, Any]] = {
        "unreadable": {"wsgi.input": Unreadable(), "CONTENT_LENGTH": "5"},
        "too_large": {"CONTENT_LENGTH": str(10**12)},
        "odd_length": {"CONTENT_LENGTH": "-1"},
        "wrong_type": {"CONTENT_TYPE": "text/plain"},
    }
    check_rows(rows.items(), check)


def test_a_refused_caller_leaves_no_trace(app: Flask, upstream: responses.RequestsMock) -> None:
    app.test_client().post("/agents/inference", json=CHAT)
    assert len(upstream.calls) == 0
    assert untouched(app)


def test_without_a_list_every_address_is_allowed(app: Flask) -> None:
    def check(address: str) -> None:
        assert call_from(app, address).status_code == 200

    check_rows(["203.0.113.9", "2001:db8::1", "::ffff:203.0.113.9", "", "unix:"], check)


def test_an_address_on_the_list_is_allowed() -> None:
    def check(row: tuple[str, str]) -> None:
        allowed, address = row
        assert call_from(app_of(ALLOWED_IPS=allowed), address).status_code == 200

    rows = [
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
    ]
    check_rows(rows, check)


def test_an_address_that_is_not_on_the_list_is_refused() -> None:
    def check(row: tuple[str, str | None]) -> None:
        allowed, address = row
        assert seen(call_from(app_of(ALLOWED_IPS=allowed), address)) == NO_ADDRESS

    rows = [
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
    ]
    check_rows(rows, check)


def test_a_refused_address_spends_nothing(upstream: responses.RequestsMock) -> None:
    app = app_of(ALLOWED_IPS="203.0.113.9")
    reply = app.test_client().post("/agents/inference", json=CHAT, headers=HEADERS)
    assert seen(reply) == NO_ADDRESS
    assert len(upstream.calls) == 0
    assert untouched(app)


def test_the_key_is_checked_before_the_address() -> None:
    app = app_of(ALLOWED_IPS="203.0.113.9")
    assert seen(call(app, USAGE, "GET", REMOTE_ADDR="198.51.100.1")) == NO_KEY


def test_behind_proxies_the_callers_address_is_the_one_that_the_outermost_trusted_proxy_saw() -> None:
    def check(row: tuple[str, tuple[int, str, str | None, int]]) -> None:
        _, (count, peer, forwarded_for, status) = row
        app = app_of(TRUSTED_PROXY_COUNT=str(count), ALLOWED_IPS="203.0.113.9,2001:db8::1")
        assert call_from(app, peer, forwarded_for).status_code == status

    rows = {
        "0_direct": (0, "203.0.113.9", None, 200),
        "0_header_ignored": (0, "203.0.113.9", "198.51.100.1", 200),
        "0_forged": (0, "198.51.100.1", "203.0.113.9", 403),
        "1_by_the_proxy": (1, "10.0.0.1", "203.0.113.9", 200),
        "1_another_client": (1, "10.0.0.1", "198.51.100.1", 403),
        "1_forged_in_front": (1, "10.0.0.1", "203.0.113.9, 198.51.100.1", 403),
        "1_noise_in_front": (1, "10.0.0.1", "198.51.100.1, 203.0.113.9", 200),
        "1_garbage_in_front": (1, "10.0.0.1", "nonsense,,203.0.113.9", 200),
        "1_no_header": (1, "10.0.0.1", None, 403),
        "1_empty_header": (1, "10.0.0.1", "", 403),
        "1_the_proxys_own_address_is_not_asked": (1, "203.0.113.9", "198.51.100.1", 403),
        "1_with_a_port": (1, "10.0.0.1", "203.0.113.9:4711", 200),
        "1_ipv6_with_a_port": (1, "10.0.0.1", "[2001:db8::1]:4711", 200),
        "1_ipv6_in_brackets": (1, "10.0.0.1", "[2001:db8::1]", 200),
        "1_mapped_with_a_port": (1, "10.0.0.1", "[::ffff:203.0.113.9]:1", 200),
        "1_another_client_with_a_port": (1, "10.0.0.1", "198.51.100.1:4711", 403),
        "1_forged_in_front_of_a_port": (1, "10.0.0.1", "203.0.113.9:1, 198.51.100.1:2", 403),
        "1_no_port": (1, "10.0.0.1", "203.0.113.9:", 403),
        "1_letters_as_port": (1, "10.0.0.1", "203.0.113.9:http", 403),
        "1_two_ports": (1, "10.0.0.1", "203.0.113.9:1:2", 403),
        "1_ipv4_in_brackets": (1, "10.0.0.1", "[203.0.113.9]:1", 403),
        "1_ipv6_with_no_port": (1, "10.0.0.1", "[2001:db8::1]:", 403),
        "1_open_bracket": (1, "10.0.0.1", "[2001:db8::1", 403),
        "1_text_behind_the_brackets": (1, "10.0.0.1", "[2001:db8::1]x", 403),
        "1_ipv6_without_brackets_has_no_port": (1, "10.0.0.1", "2001:db8::1:4711", 403),
        "1_port_in_another_script": (1, "10.0.0.1", "203.0.113.9:\xb2", 403),
        "1_ipv6": (1, "10.0.0.1", "2001:db8::1", 200),
        "1_mapped": (1, "10.0.0.1", "::ffff:203.0.113.9", 200),
        "1_unknown": (1, "10.0.0.1", "unknown", 403),
        "1_by_a_unix_socket": (1, "10.0.0.1", "203.0.113.9, unix:", 403),
        "1_space_for_comma": (1, "10.0.0.1", "203.0.113.9 198.51.100.1", 403),
        "1_latin_1": (1, "10.0.0.1", "\xff", 403),
        "2_by_both_proxies": (2, "10.0.0.1", "203.0.113.9, 10.0.0.2", 200),
        "2_another_client": (2, "10.0.0.1", "198.51.100.1, 10.0.0.2", 403),
        "2_forged_in_front": (2, "10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2", 403),
        "2_noise_in_front": (2, "10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2", 200),
        "2_with_ports": (2, "10.0.0.1", "203.0.113.9:1, 10.0.0.2:2", 200),
        "2_only_one_hop": (2, "10.0.0.1", "203.0.113.9", 403),
        "2_forged_by_a_quote": (2, "10.0.0.1", '203.0.113.9, "x, 198.51.100.1, 10.0.0.2', 403),
        "1_quoted_in_front": (1, "10.0.0.1", '"203.0.113.9", 198.51.100.1', 403),
        "1_forged_by_a_quote": (1, "10.0.0.1", '203.0.113.9, "x, 198.51.100.1', 403),
        "0_quote_ignored": (0, "203.0.113.9", '"', 200),
    }
    check_rows(rows.items(), check)


def test_a_quote_does_not_make_a_caller_pass_as_the_proxy() -> None:
    def check(row: tuple[int, str]) -> None:
        count, forged = row
        app = app_of(TRUSTED_PROXY_COUNT=str(count), ALLOWED_IPS="10.0.0.0/8")
        added = ["", "198.51.100.1", "10.0.0.2"][: count + 1]
        assert seen(call_from(app, "10.0.0.1", forged + ", ".join(added))) == NO_ADDRESS

    check_rows(product([1, 2], ['"', '"x', '203.0.113.9, "', '"203.0.113.9"', 'x"y', '"\\"']), check)


def test_a_caller_that_bypasses_the_outer_proxy_does_not_pass_as_the_inner_one() -> None:
    def check(row: tuple[str, int]) -> None:
        forwarded_for, status = row
        app = app_of(TRUSTED_PROXY_COUNT="2", ALLOWED_IPS="10.0.0.0/8")
        assert call_from(app, "10.0.0.1", forwarded_for).status_code == status

    rows = [
        ("198.51.100.1", 403),
        ("10.0.0.1", 403),
        ("", 200),  # passed no proxy: the nearest peer is the caller
    ]
    check_rows(rows, check)


def test_monitors_need_neither_a_key_nor_an_allowed_address() -> None:
    def check(path: str) -> None:
        reply = call(app_of(ALLOWED_IPS="203.0.113.9"), path, "GET", REMOTE_ADDR="198.51.100.1")
        assert reply.status_code in {200, 503}
        assert seen(reply)[1]["status"] in {"healthy", "not_ready"}

    check_rows(["/health", "/ready"], check)


def test_an_allowed_caller_is_answered(upstream: responses.RequestsMock) -> None:
    app = app_of(ALLOWED_IPS="203.0.113.9")
    upstream.post(CHAT_URL, body=answer_of("Hi"))
    reply = app.test_client().post(
        "/agents/inference", json=CHAT, headers=HEADERS, environ_overrides={"REMOTE_ADDR": "203.0.113.9"}
    )
    assert seen(reply) == (200, "Hi")


# --- rotation of keys


def test_during_a_rotation_the_new_and_the_previous_key_are_accepted() -> None:
    app = app_of(PROXY_API_KEY_PREVIOUS="the-key-before", ADMIN_API_KEY_PREVIOUS="the-admin-key-before")

    def check(row: tuple[str, str, int]) -> None:
        path, key, status = row
        reply = app.test_client().get(path, headers={"Authorization": f"Bearer {key}"})
        assert reply.status_code == status

    rows = [
        ("/v1/models", PROXY_KEY, 200),
        ("/v1/models", "the-key-before", 200),
        ("/admin/runs", ADMIN_KEY, 200),
        ("/admin/runs", "the-admin-key-before", 200),
        ("/v1/models", "the-admin-key-before", 401),
        ("/admin/runs", "the-key-before", 401),
    ]
    check_rows(rows, check)


def test_where_tokens_are_required_the_previous_key_is_refused_too() -> None:
    app = app_of(REQUIRE_RUN_TOKENS="1", RUN_TOKEN_KEY="k" * 32, PROXY_API_KEY_PREVIOUS="the-key-before")
    reply = app.test_client().get("/v1/models", headers={"Authorization": "Bearer the-key-before"})
    assert reply.status_code == 401


def test_a_given_key_is_compared_in_full_with_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a comparison then reveals neither a key's length nor how much of it is right."""
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def record(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", record)

    def check(key: str) -> None:
        app = app_of(PROXY_API_KEY_PREVIOUS=PREVIOUS_KEY)
        compared.clear()
        app.test_client().get("/agents/usage?run_id=a", headers={"Authorization": f"Bearer {key}"})
        assert compared == [(32, 32), (32, 32)]

    check_rows([PROXY_KEY, PROXY_KEY[:-1], "x", "", PREVIOUS_KEY], check)
