"""One delivery to a webhook: what is sent, which answers take it, and that the URL stays secret."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from gevent.event import Event

from ridges_proxy.errors import (
    UpstreamBrokenError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from ridges_proxy.upstream import Webhook, webhook
from ridges_proxy.upstream.http.adapter import Adapter
from tests.deploy.nginx import certify
from tests.support.one_answer import answering, closed_url, http
from tests.support.table import each_row

if TYPE_CHECKING:
    from pathlib import Path

BODY = b'{"text":"80 %"}'
PATH = "/services/T0/B0/in-the-path"
SECRETS = ("in-the-path", "in-the-name", "in-the-key", "in-the-query")


def webhook_of(url: str) -> Webhook:
    """A webhook whose URL has secrets in each of its parts."""
    address = url.replace("http://", "http://user:in-the-name@")
    return Webhook(f"{address}{PATH}?token=in-the-query", b"in-the-key", lambda: 1_796_047_509.9)


def test_a_message_is_posted_with_its_id_its_time_and_its_signature() -> None:
    with answering(http(b"", "204 No Content")) as server:
        webhook_of(server.url).post("alert-1", BODY)
    head, _, body = server.asked[0].partition(b"\r\n\r\n")
    request_line, *lines = head.decode().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert (request_line, body) == (f"POST {PATH}?token=in-the-query HTTP/1.1", BODY)
    assert headers["host"] == server.url.removeprefix("http://")
    assert (headers["content-type"], headers["content-length"]) == ("application/json", str(len(BODY)))
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("alert-1", "1796047509")
    assert headers["webhook-signature"].startswith("v1,")
    assert headers["authorization"].startswith("basic ")


@each_row("status", ["200 OK", "201 Created", "202 Accepted", "204 No Content", "299 Fine"])
def test_each_status_of_success_takes_the_message(status: str) -> None:
    body = b"" if status.startswith("204") else b"ok"
    with answering(http(body, status)) as server:
        webhook_of(server.url).post("alert-1", BODY)


@each_row("status", [300, 301, 302, 307, 308, 400, 401, 404, 408, 410, 429, 500, 502, 503, 504, 520, 529])
def test_no_other_status_takes_it_and_no_redirect_is_followed(status: int) -> None:
    with answering(http(b"ok")) as other:
        answer = http(b"moved", f"{status} Status", Location=other.url)
        with answering(answer) as server, pytest.raises(UpstreamFailedError) as caught:
            webhook_of(server.url).post("alert-1", BODY)
    assert caught.value.upstream_status == status
    assert (len(server.asked), other.asked) == (1, [])


@each_row(
    ("answer", "error"),
    [
        (b"", UpstreamBrokenError),
        (b"HTTP/1.1 2", UpstreamBrokenError),
        (b"220 mail ESMTP\r\n", UpstreamBrokenError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", UpstreamBrokenError),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * (1 << 20), UpstreamBrokenError),
    ],
)
def test_what_is_no_answer_does_not_take_it(answer: bytes, error: type[UpstreamError]) -> None:
    with answering(answer) as server, pytest.raises(error):
        webhook_of(server.url).post("alert-1", BODY)
    assert len(server.asked) == 1


@each_row(
    "answer",
    [
        http(b"x" * (8 << 20)),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbroken",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk",
    ],
)
def test_a_body_that_is_huge_or_broken_does_not_matter(answer: bytes) -> None:
    with answering(answer) as server:
        webhook_of(server.url).post("alert-1", BODY)


def test_each_message_has_a_connection_of_its_own_that_is_closed() -> None:
    """Also if the receiver would keep it open, and might close it while the next message is sent."""
    rests: list[bytes] = []

    def serve() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5.0)
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                rests.append(connection.recv(1))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5.0)
        server = threading.Thread(target=serve)
        server.start()
        webhook = webhook_of(f"http://127.0.0.1:{listener.getsockname()[1]}")
        for number in range(2):
            webhook.post(f"alert-{number}", BODY)
        server.join()
    assert rests == [b"", b""]


def test_a_certificate_that_is_not_valid_is_refused(tmp_path: Path) -> None:
    certify(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    received: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            received.append(secure.recv(65_536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5.0)
        server = threading.Thread(target=serve)
        server.start()
        with pytest.raises(UpstreamUnreachableError):
            Webhook(f"https://127.0.0.1:{listener.getsockname()[1]}/", None).post("alert-1", BODY)
        server.join()
    assert received == []


def test_silence_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "IDLE_TIMEOUT_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UpstreamTimeoutError):
        webhook_of(f"http://127.0.0.1:{silent.getsockname()[1]}").post("alert-1", BODY)


def test_a_delivery_has_a_limit_however_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of 0 fires as soon as the delivery waits for anything."""
    monkeypatch.setattr(webhook, "TOTAL_TIMEOUT_SECONDS", 0)
    monkeypatch.setattr(Adapter, "send", lambda *_, **__: Event().wait())
    with pytest.raises(UpstreamTimeoutError):
        webhook_of(closed_url()).post("alert-1", BODY)


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, closed_url())
    with answering(http(b"ok")) as server:
        webhook_of(server.url).post("alert-1", BODY)
    assert len(server.asked) == 1


def test_no_error_and_no_log_line_contains_a_part_of_the_url_or_the_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(UpstreamUnreachableError) as unreachable:
        webhook_of(closed_url()).post("alert-1", BODY)
    with answering(b"") as server, pytest.raises(UpstreamBrokenError) as broken:
        webhook_of(server.url).post("alert-1", BODY)
    written = [caplog.text, *(f"{each.value} {each.value!r}" for each in (unreachable, broken))]
    assert [secret for secret in SECRETS for text in written if secret in text] == []


@each_row("url", ["", "localhost", "http://", "http://[::1"])
def test_an_invalid_url_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Webhook(url, None)
