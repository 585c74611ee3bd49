"""The server: connections, routes, and the record of each call."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import faults, reply
from .books import Books, Entry
from .chat import ChatCall
from .chat_request import ChatRequest, RefusedError, read_object
from .connection import ClientGoneError, Connection, HungUpError
from .control import PREFIX, Control
from .directive import Directive, DirectiveError, find_directive
from .embed import EmbedCall, read_inputs
from .gates import Gates
from .models import list_models
from .request import MalformedRequestError, Request, read_request
from .stream import StreamedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gevent.socket import socket as GeventSocket  # noqa: N812  (a class that gevent names in lower case)

    from .call import Call
    from .prices import Prices

CHAT_PATH = "/v1/chat/completions"
EMBED_PATH = "/embed"
MODELS_PATH = "/v1/models"
PROMPT_FIELDS = frozenset({"messages", "inputs"})
WRONG_KEY = "wrong-key"


class Server:
    """The state of the fake Chutes; `serve` is gevent's handler of a new connection."""

    def __init__(self, prices: Prices, connect: Callable[[GeventSocket], Connection] = Connection) -> None:
        self._prices = prices
        self._connect = connect
        self._books = Books()
        self._gates = Gates(self._books)
        self._control = Control(self._books, self._gates)

    def serve(self, sock: GeventSocket, _address: object) -> None:
        """Answer requests until either side closes the connection."""
        connection = self._connect(sock)
        self._books.connected(1)
        try:
            while self._answer(connection, read_request(connection)):
                pass
        except MalformedRequestError:
            with suppress(ClientGoneError):
                connection.send(reply.json_answer(400, {"detail": "fake Chutes: this is not HTTP/1.1"}))
        except (ClientGoneError, HungUpError):
            pass
        finally:
            if not connection.control:
                self._books.disconnected()
            connection.close()

    def _answer(self, connection: Connection, request: Request) -> bool:
        if request.path.startswith(PREFIX):
            self._discount(connection)
            connection.send(self._control.answer(connection, request))
        elif request.path == MODELS_PATH and request.method == "GET":
            self._discount(connection)  # proxies read the list whenever they like, beside their calls
            connection.send(reply.json_answer(200, list_models(self._prices)))
        else:
            self._call(connection, request)
        return request.keep_alive

    def _discount(self, connection: Connection) -> None:
        if not connection.control:
            connection.control = True
            self._books.connected(-1)

    def _call(self, connection: Connection, request: Request) -> None:
        entry = _new_entry(request)
        with self._books.record(entry):
            try:
                call = self._parse_call(connection, request, entry)
            except RefusedError as refusal:
                entry.outcome = "refused"
                connection.send(reply.json_answer(refusal.status, refusal.answer()))
                return
            try:
                entry.outcome = _run(call)
            finally:
                entry.billed_nanousd = call.bill(self._prices)

    def _parse_call(self, connection: Connection, request: Request, entry: Entry) -> Call:
        if request.path not in {CHAT_PATH, EMBED_PATH}:
            raise RefusedError(404, "Not Found")
        if request.method != "POST":
            raise RefusedError(405, "Method Not Allowed")
        if not request.token:
            raise RefusedError(401, "Authentication required.")
        if request.token == WRONG_KEY:
            raise RefusedError(401, "Invalid token or user not found")
        body = read_object(request.body)
        entry.body_keys = sorted(body)
        entry.body = {name: value for name, value in body.items() if name not in PROMPT_FIELDS}
        if request.path == EMBED_PATH:
            return self._parse_embedding(connection, body, entry)
        return self._parse_chat(connection, body, entry)

    def _parse_chat(self, connection: Connection, body: dict[str, Any], entry: Entry) -> ChatCall:
        chat_request = ChatRequest.read(body)
        entry.model, entry.stream = chat_request.model, chat_request.stream
        entry.max_tokens, entry.stream_options = chat_request.max_tokens, body.get("stream_options")
        known = faults.STREAM if chat_request.stream else faults.CHAT
        directive = self._directive(chat_request.texts(), known)
        if directive.refuses_chunk_usage and "continuous_usage_stats" in chat_request.stream_options:
            raise RefusedError(400, "Extra inputs are not permitted: stream_options.continuous_usage_stats")
        return ChatCall(connection, entry, directive, self._gates, chat_request)

    def _parse_embedding(self, connection: Connection, body: dict[str, Any], entry: Entry) -> EmbedCall:
        inputs = read_inputs(body)
        directive = self._directive(((text, 0) for text in inputs), faults.EMBED)
        return EmbedCall(connection, entry, directive, self._gates, inputs)

    def _directive(self, texts: Iterable[tuple[str, int]], known: frozenset[str]) -> Directive:
        try:
            directive = find_directive(texts) or self._control.default
        except DirectiveError as error:
            raise RefusedError(400, str(error)) from error
        if directive.fault is not None and directive.fault not in known:
            raise RefusedError(
                400, f"fake Chutes: fault {directive.fault!r} does not happen to such a request"
            )
        return directive


def _new_entry(request: Request) -> Entry:
    authorization = request.headers.get("authorization", "")
    return Entry(
        path=request.path,
        headers_seen={name: value for name, value in request.headers.items() if name != "authorization"},
        authorization_sha256=hashlib.sha256(authorization.encode()).hexdigest(),
        received_at=time.time(),
    )


def _run(call: Call) -> str:
    """Answer the call, and return its outcome. Sets the outcome itself where it raises."""
    try:
        if not call.answer_early():
            _send_answer(call)
    except ClientGoneError:
        call.bill_lost_answer()
        call.entry.outcome = "client_gone"
        raise
    except HungUpError:
        call.bill_lost_answer()
        call.entry.outcome = "fault"
        raise
    return "done" if call.directive.fault is None else "fault"


def _send_answer(call: Call) -> None:
    if isinstance(call, EmbedCall):
        call.answer()
    elif isinstance(call, ChatCall):
        if call.chat_request.stream and call.directive.fault != "json_whole":
            StreamedAnswer(call).send_all()
        else:
            call.answer_whole()
