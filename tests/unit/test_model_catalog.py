from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ridges_proxy.errors import (
    UpstreamBrokenError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from ridges_proxy.runtime.json_structure import MAX_MARKS
from ridges_proxy.upstream import CatalogModel, fetch_catalog, model_catalog
from ridges_proxy.upstream.model_catalog import MAX_CATALOG_BYTES, MAX_CONTEXT_TOKENS, parse_catalog
from tests.support.one_answer import answering, closed_url, http
from tests.support.table import check_rows

CONNECT_SECONDS = 5.0


def document(**pricing: object) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": "m", "pricing": pricing}]}).encode()


LIST = document(prompt=0.27, completion=1.1)
MODELS = {"m": CatalogModel(270_000_000, 1_100_000_000)}


# --- parsing


def test_prices_are_nano_usd_by_model() -> None:
    content = b"""{"data": [
        {"id": "a", "pricing": {"prompt": 0.27, "completion": 1.1}, "context_length": 1},
        {"id": "b", "pricing": {"prompt": 3, "completion": 0, "input_cache_read": 0.3}},
        {"id": "c", "pricing": {"prompt": 0.30000000000000004, "completion": 1e-10}}
    ]}"""

    assert parse_catalog(content) == {
        "a": CatalogModel(270_000_000, 1_100_000_000, context_tokens=1),
        "b": CatalogModel(3_000_000_000, 0, 300_000_000),
        "c": CatalogModel(300_000_001, 1),
    }


def test_an_invalid_price_counts_as_missing() -> None:
    rows = ["null", '"0.27"', "true", "[]", "{}", "-1", "-1e-9", "NaN", "Infinity", "-Infinity", "1e30"]

    def check(price: str) -> None:
        content = b'{"data": [{"id": "m", "pricing": {"prompt": %b, "completion": 1}}]}' % price.encode()
        assert parse_catalog(content) == {"m": CatalogModel(None, 1_000_000_000)}

    check_rows([*rows, "9" * 5000], check)


def test_a_context_length_has_the_name_of_chutes_or_of_vllm() -> None:
    rows = {
        '"context_length": 131072': 131_072,
        '"max_model_len": 4096': 4_096,
        '"context_length": null, "max_model_len": 4096': 4_096,
        '"context_length": 8192, "max_model_len": 4096': 8_192,
        '"context_length": 1e6': 1_000_000,
        '"context_length": 1000000000': MAX_CONTEXT_TOKENS,
        **dict.fromkeys(
            [
                f'"context_length": {bad}'
                for bad in ("0", "-1", "1.5", "1000000001", "1e10", '"1"', "true", "NaN", "{}")
            ]
        ),
    }

    def check(row: tuple[str, int | None]) -> None:
        content = b'{"data": [{"id": "m", %b}]}' % row[0].encode()
        assert parse_catalog(content) == {"m": CatalogModel(None, None, context_tokens=row[1])}

    check_rows(rows.items(), check)


def test_a_model_without_prices_is_listed() -> None:
    rows: list[object] = [None, [], "free", 0.27, {}, {"input": 1}]

    def check(pricing: object) -> None:
        content = json.dumps({"data": [{"id": "m", "pricing": pricing}, {"id": "n"}]})
        no_prices = CatalogModel(None, None)
        assert parse_catalog(content.encode()) == {"m": no_prices, "n": no_prices}

    check_rows(rows, check)


def test_models_without_an_id_are_left_out() -> None:
    models: list[object] = [None, 1, "m", [], {}, {"id": None}, {"id": 7}, {"id": ["m"]}, {"id": "m"}]

    assert parse_catalog(json.dumps({"data": models}).encode()) == {"m": CatalogModel(None, None)}


def test_a_body_that_is_not_a_list_of_models_is_broken() -> None:
    rows = [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"data": {}}',
        b'{"data": "x"}',
        b'{"data": [}',
        b'{"data": []} x',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"data": [{"id": "m", "pricing": {"prompt": 1e99999999999999999999}}]}',
        b'{"data": [' + b"1," * MAX_MARKS + b"1]}",
    ]

    def check(content: bytes) -> None:
        with pytest.raises(UpstreamBrokenError):
            parse_catalog(content)

    check_rows(rows, check)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["id", "data", "pricing", "prompt"]), inner)
    ),
    max_leaves=20,
)


@given(value=json_values)
@example(value={"data": [{"id": "m", "pricing": {"prompt": {"usd": 1}}}]})
def test_any_json_is_parsed_or_broken(value: object) -> None:
    try:
        models = parse_catalog(json.dumps(value).encode())
    except UpstreamBrokenError:
        return
    for name, model in models.items():
        assert isinstance(name, str)
        assert model.input_nanousd is None or model.input_nanousd >= 0


# --- fetching


def test_the_request_has_no_key_and_no_cookie() -> None:
    with answering(http(LIST, Set_Cookie="a=b")) as server:
        assert fetch_catalog(f"{server.url}/v1", CONNECT_SECONDS) == MODELS

    (head,) = server.asked
    assert head.startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"authorization" not in head.lower()
    assert b"Accept-Encoding: identity\r\n" in head


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, closed_url())
    with answering(http(LIST)) as server:
        assert fetch_catalog(server.url, CONNECT_SECONDS) == MODELS


def test_a_redirect_is_not_followed() -> None:
    def check(status: str) -> None:
        with (
            answering(http(LIST)) as elsewhere,
            answering(http(b"", status, Location=f"{elsewhere.url}/models")) as server,
            pytest.raises(UpstreamRefusedError) as refused,
        ):
            fetch_catalog(server.url, CONNECT_SECONDS)

        assert refused.value.upstream_status == int(status[:3])
        assert elsewhere.asked == []

    check_rows(["301 Moved", "302 Found", "307 Temporary"], check)


def test_any_other_status_is_an_error_with_that_status() -> None:
    def check(status: int) -> None:
        with answering(http(LIST, f"{status} X")) as server, pytest.raises(UpstreamRefusedError) as refused:
            fetch_catalog(server.url, CONNECT_SECONDS)

        assert refused.value.upstream_status == status
        assert len(server.asked) == 1

    check_rows([204, 401, 404, 429, 500, 503], check)


def test_an_invalid_response_is_broken() -> None:
    rows = {
        "empty": b"",
        "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
        "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + LIST,
        "cut in a chunk": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"dat',
        "invalid chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "encoded": http(LIST, Content_Encoding="gzip"),
        "not JSON": http(b"x"),
    }

    def check(row: tuple[str, bytes]) -> None:
        with answering(row[1]) as server, pytest.raises(UpstreamBrokenError):
            fetch_catalog(server.url, CONNECT_SECONDS)

    check_rows(rows.items(), check)


def test_a_response_may_be_as_large_as_the_limit() -> None:
    padding = b" " * (MAX_CATALOG_BYTES - len(LIST))
    with answering(http(LIST + padding)) as server:
        assert fetch_catalog(server.url, CONNECT_SECONDS) == MODELS
    with answering(http(LIST + padding + b" ")) as server, pytest.raises(UpstreamBrokenError):
        fetch_catalog(server.url, CONNECT_SECONDS)


def test_a_slow_response_ends_with_the_total_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_catalog, "TOTAL_TIMEOUT_SECONDS", -1.0)
    with answering(http(LIST)) as server, pytest.raises(UpstreamTimeoutError):
        fetch_catalog(server.url, CONNECT_SECONDS)


def test_a_silent_upstream_ends_with_the_idle_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_catalog, "IDLE_TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UpstreamTimeoutError):
        fetch_catalog(f"http://127.0.0.1:{silent.getsockname()[1]}", CONNECT_SECONDS)


def test_a_closed_port_is_unreachable() -> None:
    with pytest.raises(UpstreamUnreachableError):
        fetch_catalog(closed_url(), CONNECT_SECONDS)


def test_an_invalid_url_is_an_upstream_error() -> None:
    def check(url: str) -> None:
        with pytest.raises(UpstreamError):
            fetch_catalog(url, 0.5)

    check_rows(["http://a..b", "http://" + "a" * 70, "http://[::1%x]", "http://*"], check)
