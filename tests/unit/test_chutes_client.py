"""`ChutesClient`: requests, answers and errors, against a mocked site and against sockets."""

from __future__ import annotations

import gzip
import io
import json
import socket
import threading
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn, Self

import gevent
import pytest
import requests
import responses
import urllib3
from urllib3.util import connection as urllib3_connection

from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS, Usage
from ridges_proxy.errors import (
    AnswerTooLargeError,
    UpstreamAuthError,
    UpstreamBrokenError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamModelError,
    UpstreamNoInstanceError,
    UpstreamQuotaError,
    UpstreamRejectedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from ridges_proxy.runtime.cooperative import PAUSE_SECONDS
from ridges_proxy.upstream import Attempt, ChutesClient, body_reader
from ridges_proxy.upstream import attempt as attempt_module
from ridges_proxy.upstream import client as client_module
from ridges_proxy.upstream.attempt import UNANSWERED_STATUSES
from ridges_proxy.upstream.body_reader import READS_PER_SECOND
from ridges_proxy.upstream.client import NUMBER_BYTES
from ridges_proxy.upstream.http import connection
from ridges_proxy.upstream.http.adapter import CONNECT_RETRIES, Adapter, RequestBody
from ridges_proxy.upstream.http.connection import CLOSED_AT_ONCE, MAX_IDLE_SECONDS, FreshConnections
from ridges_proxy.upstream.strict_json import LARGE_BYTES
from tests.support.app import CHUTES_KEY, settings_of
from tests.support.clock import Clock
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHAT_URL = "http://chutes.test/v1/chat/completions"
EMBED_URL = "http://embed.test/embed"
BODIES: dict[str, Any] = {"text": b"{}", "embed": [b"{}"]}
"""What each method sends."""


def content(text: str, *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":2}}\n\n'
GOOD = content("Hel") + content("lo") + content("", finish="stop") + USAGE + DONE
ERROR_LINE = (
    b'{"error":"Unhandled exception during response stream: exhausted all available targets to no avail"}\n'
)


EMPTY_SITE: dict[str, Callable[..., object]] = {"chutes_site": responses.RequestsMock.reset}
"""The rows of a table must not share the answers of the mocked site."""


@contextmanager
def client_of(**overrides: str) -> Iterator[ChutesClient]:
    client = ChutesClient(settings_of(**overrides))
    try:
        yield client
    finally:
        client._adapter.close()


@pytest.fixture
def client() -> Iterator[ChutesClient]:
    with client_of() as made:
        yield made


@pytest.fixture
def chutes_site() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


# --- requests and answers ----------------------------------------------------------------------------------


def body_of(call: responses.Call) -> bytes:
    body = call.request.body  # `responses` has read the `RequestBody`, so the attempt counts as sent
    assert isinstance(body, bytes)
    return body


def test_a_chat_sends_the_body_unchanged_with_the_chutes_key(
    client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(CHAT_URL, body=GOOD)
    body = b'{"model": "m", "messages": [{"content": "\xc3\xa9"}]}'

    client.text(body, Attempt())

    call = chutes_site.calls[0]
    assert body_of(call) == body
    assert dict(call.request.headers) == {
        "Authorization": f"Bearer {CHUTES_KEY}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Accept-Encoding": "identity",
        "User-Agent": "ridges-proxy",
    }


def test_an_embedding_sends_the_body_unchanged_with_the_chutes_key(
    client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(EMBED_URL, body=b"[[0.5]]")

    client.embed([b'{"inputs":"a"}'], Attempt())

    assert body_of(chutes_site.calls[0]) == b'{"inputs":"a"}'
    assert chutes_site.calls[0].request.headers["Authorization"] == f"Bearer {CHUTES_KEY}"
    assert chutes_site.calls[0].request.headers["Accept-Encoding"] == "identity"


def test_a_complete_stream_yields_text_and_usage(
    client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(CHAT_URL, body=GOOD)
    attempt = Attempt()

    assert client.text(b"{}", attempt) == "Hello"

    assert attempt.complete
    assert attempt.answering
    assert not attempt.refused
    assert attempt.upstream_status == 200
    assert attempt.usage == Usage(11, 2)
    assert attempt.received_tokens == 3 + 2 + 1
    assert attempt.started_at is not None
    assert attempt.ended_at is not None
    assert attempt.ended_at >= attempt.started_at


@each_row(
    "stream",
    [
        content("Hello") + DONE,
        content("Hello", finish="stop"),
        content("Hello") + USAGE,
        content("Hello") + USAGE.rstrip(),
        content("Hello") + DONE + content(" again") + ERROR_LINE,
        b": ping\n\n" + content("Hello") + b": ping\n\n" + DONE,
        b"\xef\xbb\xbf" + content("Hello").replace(b"\n\n", b"\r\n\r\n") + DONE,
        content("Hello").replace(b"data: ", b"data:") + DONE,
    ],
    before=EMPTY_SITE,
)
def test_every_complete_stream_yields_its_text(
    stream: bytes, client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(CHAT_URL, body=stream)

    assert client.text(b"{}", Attempt()) == "Hello"


@each_row(
    "stream",
    [
        b"",
        content("Hello"),
        content("Hello") + ERROR_LINE,
        content("Hello") + ERROR_LINE.rstrip(),
        content("Hello") + b'data: {"error":{"message":"boom"}}\n\n' + DONE,
        content("Hello") + b"data: {malformed\n\n" + DONE,
        b'{"id":"x","choices":[{"message":{"content":"Hello"}}],"usage":{"prompt_tokens":1}}',
        b"<html><body>Bad gateway</body></html>",
        content("Internal Server Error", finish="stop") + DONE,
        content("exhausted all available targets to no avail", finish="stop") + DONE,
    ],
    before=EMPTY_SITE,
)
def test_a_stream_that_fails_inside_a_200_is_broken(
    stream: bytes, client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(CHAT_URL, body=stream)
    attempt = Attempt()

    with pytest.raises(UpstreamBrokenError):
        client.text(b"{}", attempt)

    assert (attempt.answering, attempt.refused) == (True, False)
    assert attempt.ended_at is not None


EARLY_STATUSES: list[tuple[int, Any, type[UpstreamError]]] = [
    (401, {"detail": "Authentication required."}, UpstreamAuthError),
    (401, {"detail": "Invalid token or user not found"}, UpstreamAuthError),
    (403, {"detail": "Forbidden"}, UpstreamAuthError),
    (
        402,
        {"detail": {"message": "Quota exceeded and account balance is $0.0", "quota_reset_timestamp": 1}},
        UpstreamQuotaError,
    ),
    (402, {"detail": "Quota exceeded"}, UpstreamQuotaError),
    (404, {"detail": "model not found: X"}, UpstreamModelError),
    (404, {"detail": "No matching cord found!"}, UpstreamModelError),
    (400, {"detail": "Invalid request: too long"}, UpstreamRejectedError),
    (400, {"detail": {"message": "Invalid request", "code": 400}}, UpstreamRejectedError),
    (422, {"detail": []}, UpstreamRejectedError),
    (
        429,
        {"detail": "Infrastructure is at maximum capacity, try again later"},
        UpstreamBusyError,
    ),
    (429, {"detail": "model is under maintenance"}, UpstreamBusyError),
    (429, {"detail": "Stop spamming this prompt, please..."}, UpstreamBusyError),
    (503, {"detail": "No instances available (yet) for chute_id='x'"}, UpstreamNoInstanceError),
    (500, {"detail": "exhausted all available targets to no avail"}, UpstreamFailedError),
    (500, {"detail": "No result returned from upstream"}, UpstreamFailedError),
    (502, "<html>Bad gateway</html>", UpstreamFailedError),
    *((status, "", UpstreamTimeoutError) for status in (408, 460, 499, 504, 522, 524, 598)),
    (520, "", UpstreamBrokenError),
    (201, {"choices": []}, UpstreamFailedError),
    (204, "", UpstreamFailedError),
    (304, "", UpstreamFailedError),
]


@each_row(("status", "body", "kind"), EARLY_STATUSES)
@each_row("verb", ["text", "embed"], before=EMPTY_SITE)
def test_an_early_status_is_a_refusal_of_its_kind(  # noqa: PLR0913, PLR0917 - the table and two fixtures
    verb: str,
    status: int,
    body: object,
    kind: type[UpstreamError],
    client: ChutesClient,
    chutes_site: responses.RequestsMock,
) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    chutes_site.post(CHAT_URL if verb == "text" else EMBED_URL, status=status, body=text)
    attempt = Attempt()

    with pytest.raises(UpstreamError) as raised:
        getattr(client, verb)(BODIES[verb], attempt)

    assert type(raised.value) is kind
    # Below 300 nothing has been refused: the upstream may go on, and bill.
    is_refused = status >= 300 and status not in UNANSWERED_STATUSES
    assert (attempt.refused, attempt.answering, attempt.complete) == (is_refused, False, False)
    assert (attempt.sent, attempt.upstream_status) == (True, status)
    assert attempt.ended_at is not None
    assert len(chutes_site.calls) == 1


def test_an_error_contains_nothing_of_the_upstreams_message(
    client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(CHAT_URL, status=402, json={"detail": "account balance is $-12.34"})

    with pytest.raises(UpstreamQuotaError) as raised:
        client.text(b"{}", Attempt())

    assert "12.34" not in str(raised.value) + repr(raised.value) + str(vars(raised.value))


@each_row(
    ("retry_after", "date", "seconds"),
    [
        ("37", None, 37),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:00 GMT", 37),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None, 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None, 60),
    ],
    before=EMPTY_SITE,
)
def test_an_error_has_the_time_that_the_upstream_asks_to_wait(
    retry_after: str,
    date: str | None,
    seconds: int,
    client: ChutesClient,
    chutes_site: responses.RequestsMock,
) -> None:
    headers = {"Retry-After": retry_after} | ({"Date": date} if date else {})
    chutes_site.post(CHAT_URL, status=503, headers=headers)

    with pytest.raises(UpstreamNoInstanceError) as raised:
        client.text(b"{}", Attempt())

    assert raised.value.retry_after_seconds == seconds


def complete(client: ChutesClient, verb: str) -> None:
    if verb == "json":
        with client.complete_json(b"{}", Attempt()) as answer:
            client.record_json(answer, Attempt())
    elif verb == "relay":
        client.relay(b"{}", Attempt(), lambda _: None, shows_usage=False)
    else:
        getattr(client, verb)(BODIES.get(verb, b"{}"), Attempt())


@each_row("place", ["in a refusal", "in place of an answer", "inside an answer"])
@each_row("status", [400, 500])
@each_row("verb", ["text", "message", "relay", "json"], before=EMPTY_SITE)
def test_no_error_contains_the_key(
    place: str, status: int, verb: str, client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    error = {"message": f"Bad {CHUTES_KEY}", "code": CHUTES_KEY, "param": CHUTES_KEY, "status": status}
    body = json.dumps({"error": error}).encode()
    if verb != "json":
        text = content("a") if place == "inside an answer" else b""
        body = text + b"data: " + body + b"\n\n"
    chutes_site.post(CHAT_URL, body=body, status=status if place == "in a refusal" else 200)

    with pytest.raises(UpstreamError) as raised:
        complete(client, verb)

    assert CHUTES_KEY not in f"{raised.value} {raised.value!r} {vars(raised.value)}"


def test_an_encoded_error_is_not_decoded(client: ChutesClient, chutes_site: responses.RequestsMock) -> None:
    encoded = gzip.compress(b'{"detail":"Bad"}')
    chutes_site.post(CHAT_URL, status=400, body=encoded, headers={"Content-Encoding": "gzip"})

    with pytest.raises(UpstreamRejectedError) as raised:
        client.text(b"{}", Attempt())

    assert "Bad" not in f"{vars(raised.value)}"


@each_row("status", [301, 302, 303, 307, 308], before=EMPTY_SITE)
def test_a_redirect_is_a_failure_and_is_not_followed(
    status: int, client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(CHAT_URL, status=status, headers={"Location": "http://elsewhere.test/"})

    with pytest.raises(UpstreamFailedError):
        client.text(b"{}", Attempt())

    assert [call.request.url for call in chutes_site.calls] == [CHAT_URL]


@each_row(
    ("shows_usage", "shows_chunk_usage", "passed_on"),
    [(False, False, [False, False]), (True, False, [False, True]), (False, True, [True, True])],
    before=EMPTY_SITE,
)
def test_a_relayed_stream_shows_the_usage_that_was_asked_for(
    *,
    shows_usage: bool,
    shows_chunk_usage: bool,
    passed_on: list[bool],
    client: ChutesClient,
    chutes_site: responses.RequestsMock,
) -> None:
    in_chunk = content("Hello", finish="stop").replace(b"}\n", b',"usage":{"prompt_tokens":11}}\n')
    chutes_site.post(CHAT_URL, body=in_chunk + USAGE + DONE)
    events: list[bytes] = []

    client.relay(
        b"{}", Attempt(), events.append, shows_usage=shows_usage, shows_chunk_usage=shows_chunk_usage
    )

    assert any(b"Hello" in event and b'"usage"' in event for event in events) is passed_on[0]
    assert any(USAGE.strip() in event for event in events) is passed_on[1]


def test_a_usage_that_is_kept_is_returned_and_not_passed_on(
    client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(CHAT_URL, body=GOOD)
    events: list[bytes] = []

    kept = client.relay(b"{}", Attempt(), events.append, shows_usage=True, keeps_usage=True)

    assert kept == USAGE.removeprefix(b"data: ").strip()
    assert USAGE.strip() not in b"".join(events)


@each_row(
    ("verb", "max_pause_seconds"), [("text", 0.25), ("message", 0.25), ("relay", 0.1)], before=EMPTY_SITE
)
def test_a_relayed_stream_has_shorter_pauses_than_one_that_is_collected(
    verb: str,
    max_pause_seconds: float,
    client: ChutesClient,
    chutes_site: responses.RequestsMock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[float] = []

    def read_pieces(
        response: requests.Response, pacer: body_reader.ReadPacer, limit: float
    ) -> Iterator[bytes]:
        limits.append(pacer.pause_seconds(limit))
        return body_reader.read_pieces(response)

    chutes_site.post(CHAT_URL, body=GOOD)
    monkeypatch.setattr(client_module, "read_pieces", read_pieces)
    for _ in range(READS_PER_SECOND):
        client._pacer.__enter__()  # as many open streams

    complete(client, verb)

    assert limits == [max_pause_seconds]


@each_row(
    ("event", "unseen"),
    [(content("b"), False), (b": ping\n\n", True), (content(""), True)],
    before=EMPTY_SITE,
)
def test_only_a_text_ends_a_silence_that_may_hide_tokens(
    event: bytes,
    client: ChutesClient,
    chutes_site: responses.RequestsMock,
    monkeypatch: pytest.MonkeyPatch,
    *,
    unseen: bool,
) -> None:
    clock = Clock()

    def read_pieces(*_: object) -> Iterator[bytes]:
        for piece in (content("a"), event, content("c"), DONE):
            yield piece
            clock.advance(0.6)

    chutes_site.post(CHAT_URL, body=b"")
    monkeypatch.setattr(attempt_module, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(client_module, "read_pieces", read_pieces)
    attempt = Attempt()
    client.text(b"{}", attempt)

    assert attempt.may_have_unseen_tokens is unseen


@each_row("coding", ["gzip", "deflate", "br", "GZIP", "gzip, identity"])
@each_row("verb", ["text", "embed"], before=EMPTY_SITE)
def test_an_encoded_answer_is_broken(
    verb: str, coding: str, client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    body = GOOD if verb == "text" else b"[[1]]"
    url = CHAT_URL if verb == "text" else EMBED_URL
    chutes_site.post(url, body=body, headers={"Content-Encoding": coding}, auto_calculate_content_length=True)
    attempt = Attempt()

    with pytest.raises(UpstreamBrokenError):
        getattr(client, verb)(BODIES[verb], attempt)

    assert (attempt.answering, attempt.complete) == (True, False)
    assert attempt.received_tokens == MAX_COUNTED_TOKENS, "an unread answer may have any number of tokens"


@each_row("coding", ["identity", "Identity"], before=EMPTY_SITE)
def test_an_answer_with_the_identity_encoding_is_read(
    coding: str, client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(CHAT_URL, body=GOOD, headers={"Content-Encoding": coding})

    assert client.text(b"{}", Attempt()) == "Hello"


@each_row(
    "answer",
    [
        b"[[0.1, -2.5e-3]]",
        b" [ [1] ]\n",
        b'{"error":"`inputs` must have less than 512 tokens. Given: 600","error_type":"Validation"}',
        b'{"error":"exhausted all available targets"}',
        b"null",
    ],
    before=EMPTY_SITE,
)
def test_an_embedding_is_the_upstreams_json_unchanged(
    answer: bytes, client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(EMBED_URL, body=answer)
    attempt = Attempt()

    assert client.embed([b"{}"], attempt).content == answer

    assert attempt.complete
    assert attempt.usage is None


@each_row(
    ("answer", "sent"),
    [(b"[[1]]", 2), (b" \n[[1]]", 2), (b'{"error":"[a]"}', 1), (b"null", 1)],
    before=EMPTY_SITE,
)
def test_after_an_answer_that_is_no_list_no_more_bodies_of_an_embedding_are_sent(
    answer: bytes, sent: int, client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(EMBED_URL, body=answer)

    assert client.embed([b"{}", b"{}"], Attempt(), 2).contents == [answer] * sent

    assert len(chutes_site.calls) == sent


@each_row(
    "answer",
    [b"", b"[[1]", b"[[NaN]]", b"<html>", b"\xef\xbb\xbf[[1]]", b"[" * 2000],
    before=EMPTY_SITE,
)
def test_an_embedding_that_is_no_json_is_broken(
    answer: bytes, client: ChutesClient, chutes_site: responses.RequestsMock
) -> None:
    chutes_site.post(EMBED_URL, body=answer)
    attempt = Attempt()

    with pytest.raises(UpstreamBrokenError):
        client.embed([b"{}"], attempt)

    assert (attempt.answering, attempt.complete) == (True, False)


@each_row("verb", ["text", "embed"])
@each_row(
    ("error", "kind"),
    [
        (requests.ReadTimeout(), UpstreamTimeoutError),
        (requests.ConnectionError(), UpstreamBrokenError),
        (urllib3.exceptions.LocationParseError("x"), UpstreamBrokenError),
        (OSError(), UpstreamBrokenError),
    ],
    before=EMPTY_SITE,
)
def test_an_exception_of_a_library_becomes_an_upstream_error(
    verb: str,
    error: Exception,
    kind: type[UpstreamError],
    client: ChutesClient,
    chutes_site: responses.RequestsMock,
) -> None:
    chutes_site.post(CHAT_URL if verb == "text" else EMBED_URL, body=error)
    attempt = Attempt()

    with pytest.raises(UpstreamError) as raised:
        getattr(client, verb)(BODIES[verb], attempt)

    assert type(raised.value) is kind
    assert raised.value.__cause__ is error
    assert not attempt.answering
    assert attempt.ended_at is not None


def test_a_tls_failure_inside_an_answer_is_broken_not_unreachable(
    client: ChutesClient, chutes_site: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> bytes:
        raise urllib3.exceptions.SSLError("bad record mac")

    chutes_site.post(CHAT_URL, body=GOOD)
    monkeypatch.setattr(urllib3.HTTPResponse, "read1", fail)

    with pytest.raises(UpstreamBrokenError):
        client.text(b"{}", Attempt())


@each_row(
    ("chunk_bytes", "chunks", "pauses"),
    [(1, 63, 0), (1, 64, 1), (1, 130, 2), (65_536, 3, 3), (40_000, 4, 2)],
)
def test_the_reader_of_a_fast_upstream_yields_to_other_greenlets(
    chunk_bytes: int, chunks: int, pauses: int, client: ChutesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []
    pieces = [b" " * chunk_bytes] * (chunks - 1) + [b"1".rjust(chunk_bytes), b""]
    monkeypatch.setattr(urllib3.HTTPResponse, "read1", lambda *_args, **_kwargs: pieces.pop(0))
    monkeypatch.setattr(urllib3.HTTPResponse, "closed", False)
    monkeypatch.setattr(body_reader, "gevent", SimpleNamespace(sleep=paused.append, Timeout=gevent.Timeout))
    with responses.RequestsMock() as mock:
        mock.post(EMBED_URL)
        client.embed([b"{}"], Attempt())

    assert paused == [PAUSE_SECONDS] * pauses


def test_an_exception_raised_inside_a_read_is_not_translated(
    client: ChutesClient, chutes_site: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DeadlineError(Exception):
        pass

    def interrupt(*_args: object, **_kwargs: object) -> bytes:
        raise DeadlineError

    chutes_site.post(CHAT_URL, body=GOOD)
    monkeypatch.setattr(urllib3.HTTPResponse, "read1", interrupt)
    attempt = Attempt()

    with pytest.raises(DeadlineError):
        client.text(b"{}", attempt)

    assert attempt.answering
    assert attempt.ended_at is not None


def test_a_request_body_records_the_first_read() -> None:
    attempt = Attempt()
    body = RequestBody(b"abc", attempt)
    body.seek(0, io.SEEK_END)
    body.tell()
    body.seek(0)
    assert not attempt.sent, "a measurement of the length sends nothing"

    assert body.read(2) == b"ab"
    assert attempt.sent
    assert body.read() == b"c"


def test_the_pool_is_as_large_as_the_calls_in_flight_and_never_blocks() -> None:
    with closing(Adapter(1234)) as adapter:
        pool = adapter.poolmanager.connection_from_url("https://chutes.test")

    assert pool.pool is not None
    assert (pool.pool.maxsize, pool.block) == (1234, False)
    assert isinstance(pool, urllib3.HTTPSConnectionPool)


def test_only_a_connection_attempt_is_retried() -> None:
    retries = (CONNECT_RETRIES.connect, CONNECT_RETRIES.read, CONNECT_RETRIES.status, CONNECT_RETRIES.other)

    assert retries == (2, 0, 0, 0)
    assert CONNECT_RETRIES.redirect == 0


# --- over real sockets -------------------------------------------------------------------------------------

SHORT = "0.3"
"""Seconds of silence. A slow machine does not reach them by itself."""


@dataclass
class Answer:
    """A response, and the next step of the connection: "keep", "close" or "hang"."""

    sent: bytes
    then: str = "keep"


@dataclass
class Server:
    """A server that sends the listed answers in order and records connections and requests."""

    answers: list[Answer] = field(default_factory=list)
    greeting: bytes = b""
    """Sent at once to a new connection, which is then closed."""
    requests: list[bytes] = field(default_factory=list)
    connections: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stopped.set()
        for each in [self._listener, *self.connections]:
            if each.fileno() >= 0:
                each.shutdown(socket.SHUT_RDWR) if each is self._listener else self._hang_up(each)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()

    @staticmethod
    def _hang_up(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                if self.greeting:
                    connection.sendall(self.greeting)
                    return
                while request := read_request(stream):
                    self.requests.append(request)
                    answer = self.answers.pop(0)
                    connection.sendall(answer.sent)
                    if answer.then == "hang":
                        self._stopped.wait(30)
                    if answer.then != "keep":
                        return
        except OSError:
            return


def read_request(stream: io.BufferedReader) -> bytes:
    head = b""
    while (line := stream.readline()) not in {b"", b"\r\n"}:
        head += line
    length = next(
        (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0"
    )
    return head + b"\r\n" + stream.read(int(length.partition(b":")[2])) if head else b""


def chunked(*pieces: bytes, complete: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head + chunks + (b"0\r\n\r\n" if complete else b"")


def plain(body: bytes, status: bytes = b"200 OK", headers: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, headers, size, body)


CHAT_ANSWER = Answer(chunked(GOOD))


@contextmanager
def calling(
    server: Server, host: str = "http://127.0.0.1", idle_timeout_seconds: str = "20"
) -> Iterator[ChutesClient]:
    base = f"{host}:{server.port}"
    with client_of(
        CHUTES_BASE_URL=f"{base}/v1",
        CHUTES_EMBEDDING_URL=f"{base}/embed",
        IDLE_TIMEOUT_SECONDS=idle_timeout_seconds,
        EMBEDDING_IDLE_TIMEOUT_SECONDS=idle_timeout_seconds,
    ) as made:
        yield made


def test_a_request_on_the_wire_has_the_headers_and_a_length() -> None:
    with Server([CHAT_ANSWER]) as server, calling(server) as client:
        attempt = Attempt()
        assert client.text(b'{"a":1}', attempt) == "Hello"

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"Authorization: Bearer {CHUTES_KEY}".encode() in head
    assert b"Accept-Encoding: identity" in head
    assert b"transfer-encoding" not in head.lower()
    assert body == b'{"a":1}'
    assert attempt.sent


def test_neither_netrc_nor_proxies_of_the_environment_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login spy password spy\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    with Server([CHAT_ANSWER]) as server, calling(server) as client:
        assert client.text(b"{}", Attempt()) == "Hello"

    assert f"Authorization: Bearer {CHUTES_KEY}".encode() in server.requests[0]


def test_no_cookie_is_kept_from_one_call_to_the_next() -> None:
    cookie = b"Set-Cookie: tenant=one; Path=/\r\n"
    answers = [
        Answer(plain(GOOD, headers=cookie)),
        Answer(plain(b"{}", status=b"429 Busy", headers=cookie)),
        CHAT_ANSWER,
    ]
    with Server(answers) as server, calling(server) as client:
        client.text(b"{}", Attempt())
        with pytest.raises(UpstreamBusyError):
            client.text(b"{}", Attempt())
        client.text(b"{}", Attempt())

    assert [b"cookie" in request.lower() for request in server.requests] == [False] * 3


@each_row("status", [b"301 Moved", b"302 Found", b"303 Other", b"307 There", b"308 There"])
@each_row("place", [b"/v1/elsewhere", b"http://[", b"http://a:b/", b"", b"\xff\xfe"])
def test_a_redirect_over_the_wire_is_refused_and_not_followed(status: bytes, place: bytes) -> None:
    answer = Answer(plain(b"", status=status, headers=b"Location: " + place + b"\r\n"))
    attempt = Attempt()
    with Server([answer]) as server, calling(server) as client, pytest.raises(UpstreamFailedError):
        client.text(b"{}", attempt)

    assert (len(server.requests), attempt.refused) == (1, True)


@each_row("status", [b"307 There", b"500 No"])
def test_a_refusal_is_known_before_its_body_arrives(status: bytes) -> None:
    answer = plain(b"{", status=status, headers=b"Location: /x\r\n", length=1 << 40)
    attempt = Attempt()
    with (
        Server([Answer(answer, "hang")]) as server,
        calling(server, idle_timeout_seconds=SHORT) as client,
        pytest.raises(UpstreamFailedError),
    ):
        client.text(b"{}", attempt)

    assert attempt.refused


def test_a_refused_connection_sent_nothing() -> None:
    attempt = Attempt()
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        with client_of(CHUTES_BASE_URL=url) as client, pytest.raises(UpstreamUnreachableError):
            client.text(b"{}", attempt)

    assert (attempt.sent, attempt.refused, attempt.answering) == (False, False, False)
    assert attempt.upstream_status is None
    assert attempt.ended_at is not None


@dataclass
class Connecting:
    """A replacement for `create_connection` whose first tries fail."""

    failures: list[Exception]
    tries: int = 0

    def __post_init__(self) -> None:
        self._connect = urllib3_connection.create_connection

    def __call__(self, *args: Any, **kwargs: Any) -> socket.socket:  # noqa: ANN401 - passed on as they come
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        return self._connect(*args, **kwargs)


@each_row(
    "failure", [ConnectionRefusedError(111, "refused"), TimeoutError("late"), socket.gaierror(-2, "no name")]
)
def test_connecting_is_tried_three_times(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    connecting = Connecting([failure] * 9)
    monkeypatch.setattr(urllib3_connection, "create_connection", connecting)
    attempt = Attempt()

    with client_of() as client, pytest.raises(UpstreamUnreachableError):
        client.text(b"{}", attempt)

    assert (connecting.tries, attempt.sent) == (3, False)


@each_row("verb", ["text", "json", "embed"])
def test_each_try_to_connect_has_the_limit_that_is_set(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float | None] = []

    def connect(_: tuple[str, int], timeout: float | None, **__: object) -> NoReturn:
        limits.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(urllib3_connection, "create_connection", connect)
    with client_of(CONNECT_TIMEOUT_SECONDS="7") as client, pytest.raises(UpstreamUnreachableError):
        complete(client, verb)

    assert limits == [7.0] * 3


def test_a_call_that_connects_at_the_third_try_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = [ConnectionRefusedError(111, "refused"), socket.gaierror(-3, "try again")]
    connecting = Connecting(failures)
    monkeypatch.setattr(urllib3_connection, "create_connection", connecting)

    with Server([CHAT_ANSWER]) as server, calling(server) as client:
        attempt = Attempt()
        assert client.text(b'{"a":1}', attempt) == "Hello"

    assert connecting.tries == 3
    assert attempt.sent
    assert [request.endswith(b'{"a":1}') for request in server.requests] == [True]


@each_row(
    ("answer", "kind"),
    [
        (Answer(b"", "close"), UpstreamBrokenError),
        (Answer(b"HTTP/1.1 20", "close"), UpstreamBrokenError),
        (Answer(b"what?\r\n\r\n", "close"), UpstreamBrokenError),
        (Answer(chunked(complete=False), "close"), UpstreamBrokenError),
        (Answer(plain(b"{}", b"503 No", b"Retry-After: 0\r\n")), UpstreamNoInstanceError),
        (Answer(plain(b"{}", b"429 Busy", b"Retry-After: 0\r\n")), UpstreamBusyError),
        (Answer(plain(b"{}", b"413 Large", b"Retry-After: 0\r\n")), UpstreamRejectedError),
        (Answer(plain(b"{}", b"500 No")), UpstreamFailedError),
    ],
)
@each_row("verb", ["text", "embed"])
def test_a_request_that_was_sent_is_never_repeated(
    verb: str, answer: Answer, kind: type[UpstreamError]
) -> None:
    attempt = Attempt()
    with (
        Server([answer, CHAT_ANSWER, CHAT_ANSWER]) as server,
        calling(server) as client,
        pytest.raises(UpstreamError) as raised,
    ):
        getattr(client, verb)(BODIES[verb], attempt)

    assert type(raised.value) is kind
    assert (len(server.connections), len(server.requests)) == (1, 1)
    assert attempt.sent


def test_a_failed_tls_handshake_sends_no_request() -> None:
    attempt = Attempt()
    with (
        Server(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server,
        calling(server, host="https://127.0.0.1") as client,
        pytest.raises(UpstreamUnreachableError),
    ):
        client.text(b"{}", attempt)

    assert (attempt.sent, len(server.connections)) == (False, 1)


# --- connections and their reuse ---------------------------------------------------------------------------


@each_row(
    "first",
    [
        Answer(chunked(GOOD)),
        Answer(chunked(*GOOD.splitlines(keepends=True))),
        Answer(chunked(content("Hello", finish="stop"))),
        Answer(plain(GOOD)),
        Answer(plain(b'{"detail":"no"}', status=b"503 No")),
        Answer(chunked(b'{"detail":"no"}').replace(b"200 OK", b"500 No", 1)),
        Answer(plain(b"", status=b"429 Busy")),
    ],
)
def test_a_connection_is_reused_after_a_complete_answer(first: Answer) -> None:
    with Server([first, CHAT_ANSWER]) as server, calling(server) as client:
        with suppress(UpstreamNoInstanceError, UpstreamFailedError, UpstreamBusyError):
            client.text(b"{}", Attempt())
        assert client.text(b"{}", Attempt()) == "Hello"

    assert (len(server.connections), len(server.requests)) == (1, 2)


@each_row("answer", [plain(b"[[1]]"), chunked(b"[[", b"1]]")])
def test_the_connection_of_an_embedding_is_reused(answer: bytes) -> None:
    with Server([Answer(answer)] * 3) as server, calling(server) as client:
        assert [client.embed([b"{}"], Attempt()).content for _ in range(3)] == [b"[[1]]"] * 3

    assert len(server.connections) == 1


@each_row(
    "first",
    [
        Answer(chunked(content("a"), ERROR_LINE, b"x" * 1000, complete=False)),
        Answer(chunked(GOOD).replace(b"chunked\r\n", b"chunked\r\nContent-Encoding: gzip\r\n", 1)),
        Answer(chunked(content("a"), b"data: {malformed\n\n", b"x" * 1000, complete=False)),
        Answer(plain(b" " * 200_000, status=b"400 Large")),
    ],
)
def test_a_connection_is_not_reused_after_an_abandoned_answer(first: Answer) -> None:
    with Server([first, CHAT_ANSWER]) as server, calling(server) as client:
        with pytest.raises((UpstreamBrokenError, UpstreamRejectedError)):
            client.text(b"{}", Attempt())
        assert client.text(b"{}", Attempt()) == "Hello"

    assert len(server.connections) == 2


def test_an_abandoned_answer_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[requests.Response] = []

    with (
        Server([Answer(chunked(content("a"), ERROR_LINE, complete=False), "hang")]) as server,
        calling(server) as client,
    ):
        send = client._adapter.send

        def keep(*args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - passed on as they come
            answers.append(send(*args, **kwargs))
            return answers[-1]

        monkeypatch.setattr(client._adapter, "send", keep)
        with pytest.raises(UpstreamBrokenError):
            client.text(b"{}", Attempt())

        assert answers[0].raw.closed


@each_row(("idle_seconds", "needed"), [(0.0, 1), (MAX_IDLE_SECONDS, 1), (MAX_IDLE_SECONDS + 0.5, 2)])
def test_a_connection_that_was_idle_too_long_is_not_reused(
    idle_seconds: float, needed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=clock))

    with Server([CHAT_ANSWER] * 3) as server, calling(server) as client:
        client.text(b"{}", Attempt())
        clock.advance(idle_seconds)
        client.text(b"{}", Attempt())
        clock.advance(MAX_IDLE_SECONDS)
        client.text(b"{}", Attempt())

    assert (len(server.connections), len(server.requests)) == (needed, 3)


def test_connections_that_were_idle_too_long_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=clock))
    with (
        Server([CHAT_ANSWER, Answer(plain(b"[[0.5]]"))]) as server,
        calling(server) as client,
        socket.create_connection(("127.0.0.1", server.port)) as other,
    ):
        client.text(b"{}", Attempt())
        client.embed([b"{}"], Attempt())  # another URL, the same pool
        (pool,) = set(client._adapter._pools.values())
        used = pool._get_conn()
        unused = pool._get_conn()
        unused.sock = other
        pool._put_conn(unused)
        clock.advance(MAX_IDLE_SECONDS)
        pool._put_conn(used)
        client.close_idle()
        assert unused.sock is other, "not yet too long"

        clock.advance(0.5)
        client.close_idle()

        assert unused.sock is None
        assert other.fileno() == -1
        assert [each for each in pool.pool.queue if each is not None] == [used]
        assert used.is_connected
        clock.advance(MAX_IDLE_SECONDS)
        client.close_idle()
        assert used.sock is None
        assert pool.pool.queue == [None] * pool.pool.maxsize


def test_calls_go_on_while_many_idle_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, used = Clock(), []
    pool = FreshConnections("chutes.test", maxsize=3 * CLOSED_AT_ONCE)

    def call() -> None:
        used.append(pool._get_conn())
        pool._put_conn(used[-1])

    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(connection, "pause", call)
    for conn in [pool._get_conn() for _ in range(3 * CLOSED_AT_ONCE)]:
        pool._put_conn(conn)
    clock.advance(MAX_IDLE_SECONDS + 0.5)

    pool.close_idle()

    assert pool.pool is not None
    assert len(used) == 2
    assert used[0] is used[1]
    assert pool.pool.queue == [None] * (3 * CLOSED_AT_ONCE - 1) + used[:1]


def test_idle_connections_end_before_the_upstream_closes_them() -> None:
    assert MAX_IDLE_SECONDS < 5, "uvicorn's default"


# --- timeouts ----------------------------------------------------------------------------------------------


@each_row("verb", ["text", "embed"])
@each_row(
    ("sent", "answering"),
    [(b"", False), (b"HTTP/1.1 200 OK\r\n", False), (chunked(b"[", complete=False), True)],
)
def test_silence_is_a_timeout(verb: str, sent: bytes, *, answering: bool) -> None:
    attempt = Attempt()
    with (
        Server([Answer(sent, "hang")]) as server,
        calling(server, idle_timeout_seconds=SHORT) as client,
        pytest.raises(UpstreamTimeoutError) as raised,
    ):
        getattr(client, verb)(BODIES[verb], attempt)

    assert type(raised.value) is UpstreamTimeoutError
    assert (attempt.sent, attempt.answering, attempt.complete) == (True, answering, False)
    assert len(server.requests) == 1


def test_silence_after_text_keeps_the_received_tokens() -> None:
    attempt = Attempt()
    with (
        Server([Answer(chunked(content("Hello"), complete=False), "hang")]) as server,
        calling(server, idle_timeout_seconds=SHORT) as client,
        pytest.raises(UpstreamTimeoutError),
    ):
        client.text(b"{}", attempt)

    assert (attempt.received_tokens, attempt.complete, attempt.usage) == (5, False, None)


@each_row(
    "pieces",
    [[content("Hello", finish="stop")], [content("Hello"), USAGE], [content("Hello"), DONE], [GOOD]],
)
def test_silence_after_the_end_of_an_answer_is_no_error(pieces: list[bytes]) -> None:
    with (
        Server([Answer(chunked(*pieces, complete=False), "hang")]) as server,
        calling(server, idle_timeout_seconds=SHORT) as client,
    ):
        assert client.text(b"{}", Attempt()) == "Hello"


# --- answers that are cut off ------------------------------------------------------------------------------


@each_row(
    ("answer", "tokens"),
    [
        (chunked(content("Hel"), content("lo"), complete=False), 5),
        (chunked(content("Hel"), complete=False) + b"ff\r\ndata: ", 3 + len("data: ")),
        (
            chunked(content("Hel"), content("lo")[:-1], complete=False),
            3 + len(content("lo")) - len(b"data: \n"),
        ),
        (chunked(content("Hel"), b"data: {\n\n" + content("lo"), complete=False), 3 + 1 + 2),
        (chunked(content("Hel"), b"data: {\n\ndata: {\n\n" + ERROR_LINE, complete=False), 3 + 1 + 1),
        (chunked(content("Hel"), complete=False) + b"zz\r\n", 3),
        (plain(content("Hello"), length=5000), 5),
        (plain(content("Hello"), length=len(content("Hello")) + 1), 5),
        (chunked(content("Hello")), 5),
    ],
)
def test_an_answer_cut_before_its_end_is_broken_and_its_tokens_count(answer: bytes, tokens: int) -> None:
    attempt = Attempt()
    with (
        Server([Answer(answer, "close")]) as server,
        calling(server) as client,
        pytest.raises(UpstreamBrokenError),
    ):
        client.text(b"{}", attempt)

    assert (attempt.answering, attempt.complete) == (True, False)
    assert attempt.received_tokens == tokens


@each_row(
    ("pieces", "usage"),
    [
        ([content("Hel"), content("lo", finish="stop")], None),
        ([content("Hello"), USAGE], Usage(11, 2)),
        ([content("Hello", finish="stop"), USAGE], Usage(11, 2)),
        ([content("Hello"), DONE], None),
    ],
)
@each_row("rest", [b"", b"ff\r\ndata: "])
def test_an_answer_cut_after_its_end_is_complete(
    pieces: list[bytes], usage: Usage | None, rest: bytes
) -> None:
    attempt = Attempt()
    with (
        Server([Answer(chunked(*pieces, complete=False) + rest, "close")]) as server,
        calling(server) as client,
    ):
        assert client.text(b"{}", attempt) == "Hello"

    assert (attempt.complete, attempt.usage) == (True, usage)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    answers = [Answer(head + GOOD, "close"), Answer(head + b"[[1]]", "close")]
    with Server(answers) as server, calling(server) as client:
        assert client.text(b"{}", Attempt()) == "Hello"
        assert client.embed([b"{}"], Attempt()).content == b"[[1]]"


def test_an_answer_in_one_piece_that_was_cut_may_have_unseen_tokens() -> None:
    """The upstream had made all of them when it sent the first byte."""
    attempt = Attempt()
    with (
        Server([Answer(plain(b'{"id":', length=5000), "close")]) as server,
        calling(server) as client,
        pytest.raises(UpstreamBrokenError),
    ):
        client.complete_json(b"{}", attempt)

    assert (attempt.may_have_unseen_tokens, attempt.received_tokens) == (True, 6)


@each_row("answer", [plain(b"[[1]]", length=6), chunked(b"[[1]]", complete=False)])
def test_an_embedding_that_was_cut_is_broken_even_if_it_parses(answer: bytes) -> None:
    attempt = Attempt()
    with (
        Server([Answer(answer, "close")]) as server,
        calling(server) as client,
        pytest.raises(UpstreamBrokenError),
    ):
        client.embed([b"{}"], attempt)

    assert (attempt.answering, attempt.complete) == (True, False)


# --- limits of size ----------------------------------------------------------------------------------------


@each_row("max_bytes", [len(GOOD), len(GOOD) - 1])
def test_an_answer_above_the_limit_is_broken(max_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_reader, "MAX_RESPONSE_BYTES", max_bytes)
    pieces = [GOOD[:100], GOOD[100:]]

    with Server([Answer(chunked(*pieces))]) as server, calling(server) as client:
        if max_bytes == len(GOOD):
            assert client.text(b"{}", Attempt()) == "Hello"
        else:
            with pytest.raises(UpstreamBrokenError):
                client.text(b"{}", Attempt())


@each_row("complete", [True, False])
def test_an_embedding_above_the_limit_is_broken(monkeypatch: pytest.MonkeyPatch, *, complete: bool) -> None:
    monkeypatch.setattr(body_reader, "MAX_RESPONSE_BYTES", 1000)
    answer = chunked(b"[", *[b"1," * 10_000] * 20, b"1]", complete=complete)

    with Server([Answer(answer), Answer(plain(b"[1]"))]) as server, calling(server) as client:
        with pytest.raises(UpstreamBrokenError):
            client.embed([b"{}"], Attempt())
        assert client.embed([b"{}"], Attempt()).content == b"[1]"

    assert len(server.connections) == 2, "a connection with unread bytes is not reused"


@each_row(
    ("answer", "valid"),
    [
        (b"[" + b",".join([b"[" + b"1," * (LARGE_BYTES // 2) + b"1]"] * 3) + b"]", True),
        (b"[" + b",".join([b"[" + b"1," * (LARGE_BYTES // 2) + b"1]"] * 3) + b"}", False),
        (b"[" + b"1," * LARGE_BYTES, False),
    ],
    before=EMPTY_SITE,
)
def test_a_large_embedding_is_checked_too(
    answer: bytes, client: ChutesClient, chutes_site: responses.RequestsMock, *, valid: bool
) -> None:
    chutes_site.post(EMBED_URL, body=answer)
    attempt = Attempt()
    with nullcontext() if valid else pytest.raises(UpstreamBrokenError):
        client.embed([b"{}"], attempt, 3)
    assert attempt.complete is valid


def test_the_check_of_many_small_vectors_yields_to_other_greenlets(
    client: ChutesClient, chutes_site: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone is small. Two of them are more than may be parsed at once."""
    pauses: list[None] = []
    monkeypatch.setattr(client_module, "LARGE_BYTES", 5 * NUMBER_BYTES)
    monkeypatch.setattr(client_module, "pause", lambda: pauses.append(None))
    vectors = [[0.123456789] * 3] * 5
    chutes_site.post(EMBED_URL, json=vectors)

    client.embed([b"{}"], Attempt(), len(vectors))

    assert len(pauses) == 2


@each_row("texts", [2, 1])
def test_the_size_limit_of_an_embedding_grows_with_its_texts(
    monkeypatch: pytest.MonkeyPatch, texts: int
) -> None:
    monkeypatch.setattr(client_module, "MAX_VECTOR_BYTES", 1000)
    answer = b"[" + b"1," * 600 + b"1]"

    with Server([Answer(chunked(answer))]) as server, calling(server) as client:
        if texts == 2:
            assert client.embed([b"{}"], Attempt(), texts).content == answer
        else:
            with pytest.raises(AnswerTooLargeError):
                client.embed([b"{}"], Attempt())


def test_the_time_to_connect_does_not_count_as_the_upstreams(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    connect = urllib3_connection.create_connection

    def connect_slowly(*args: Any, **kwargs: Any) -> socket.socket:  # noqa: ANN401 - passed on
        clock.advance(4)
        return connect(*args, **kwargs)

    monkeypatch.setattr(urllib3_connection, "create_connection", connect_slowly)
    monkeypatch.setattr(attempt_module, "time", SimpleNamespace(monotonic=clock))
    attempt = Attempt()
    with Server([Answer(plain(b"[1]"))]) as server, calling(server) as client:
        client.embed([b"{}"], attempt)

    assert (attempt.sent, attempt.seconds) == (True, 0)
