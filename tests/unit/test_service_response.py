from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import Client, EnvironBuilder

from ridges_proxy.web.service_response import ApiResponse, ServiceResponse
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

JSON = "application/json"


@given(
    st.lists(st.binary()),
    st.sampled_from(["GET", "POST", "HEAD"]),
    st.sampled_from([200, 402, 422, 500]),
    st.sampled_from([iter, list]),
)
def test_an_api_response_is_sent_as_werkzeug_sends_the_same(
    pieces: list[bytes], method: str, status: int, form: Callable[[list[bytes]], Iterable[bytes]]
) -> None:
    size_bytes = sum(map(len, pieces))
    ours = ApiResponse(form(pieces), JSON, status, size_bytes)
    werkzeugs = Flask.response_class(
        form(pieces), status, {"Content-Length": str(size_bytes)}, content_type=JSON
    )
    for response in (ours, werkzeugs):
        response.headers["Cache-Control"] = "no-cache"
    sent, expected = (Client(each).open(method=method) for each in (ours, werkzeugs))
    assert sent.data == expected.data == (b"" if method == "HEAD" else b"".join(pieces))
    assert (sent.status, sorted(sent.headers)) == (expected.status, sorted(expected.headers))


def test_the_server_closes_a_response_as_a_whole_also_if_it_sends_nothing_of_it() -> None:
    def check(method: str) -> None:
        closed: list[str] = []

        def pieces() -> Iterator[bytes]:
            try:
                yield b"first"
                yield b"second"
            finally:
                closed.append("pieces")

        response = ApiResponse(stream := pieces(), JSON)
        response.call_on_close(lambda: closed.append("response"))
        next(stream)
        body, _, _ = response.get_wsgi_response(EnvironBuilder(method=method).get_environ())
        assert closed == []
        getattr(body, "close")()  # noqa: B009 - a WSGI server looks for the method
        assert closed == ["pieces", "response"]

    check_rows(["GET", "HEAD"], check)


def test_own_headers_are_sent_behind_those_of_the_response() -> None:
    def check(response: ServiceResponse) -> None:
        response.own_headers = (("X-Request-ID", "r1"),)
        _, _, headers = response.get_wsgi_response(EnvironBuilder().get_environ())
        assert headers[-1] == ("X-Request-ID", "r1")
        assert headers[0][0] == "Content-Type"

    check_rows([ApiResponse([b"{}"], JSON, size_bytes=2), ServiceResponse("text")], check)
