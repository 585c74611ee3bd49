"""The server: connections, routes, and the books kept around each call."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import faults, reply
from .books import Books, Entry
from .chat import ChatCall
from .connection import ClientGoneError, Connection, HungUpError
from .control import PREFIX, Control
from .directive import Directive, DirectiveError, find_directive
from .embed import EmbedCall, read_inputs
from .gates import Gates
from .models import list_models
from .question import Question, RefusedError, read_object
from .request import MalformedRequestError, Request, read_request
from .stream import StreamedAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gevent.socket import socket as GeventSocket  # noqa: N812  (a class that gevent names in lower case)

    from .call import Call
    from .prices import Prices

CHAT_PATH = "/v1/chat/completions"
EMBED_PATH = "/embed"
MODELS_PATH = "/v1/models"
PROMPT_FIELDS = frozenset({"messages", "inputs"})
WRONG_KEY = "wrong-key"


class Server:
    """All of the fake Chutes's state; `serve` is gevent's handler for a new connection."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._books = Books()
        self._gates = Gates(self._books)
        self._control = Control(self._books, self._gates)

    def serve(self, sock: GeventSocket, _address: object) -> None:
        """Answer requests until either side has had enough."""
        connection = Connection(sock)
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
        with self._books.following(entry):
            try:
                call = self._understand(connection, request, entry)
            except RefusedError as refusal:
                entry.outcome = "refused"
                connection.send(reply.json_answer(refusal.status, refusal.answer()))
                return
            try:
                entry.outcome = _carry_out(call)
            finally:
                entry.billed_nanousd = call.bill(self._prices)

    def _understand(self, connection: Connection, request: Request, entry: Entry) -> Call:
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
            return self._understand_embed(connection, body, entry)
        return self._understand_chat(connection, body, entry)

    def _understand_chat(self, connection: Connection, body: dict[str, Any], entry: Entry) -> ChatCall:
        question = Question.read(body)
        entry.model, entry.stream = question.model, question.stream
        entry.max_tokens, entry.stream_options = question.max_tokens, body.get("stream_options")
        known = faults.STREAM if question.stream else faults.CHAT
        directive = self._directive(question.texts(), known)
        return ChatCall(connection, entry, directive, self._gates, question)

    def _understand_embed(self, connection: Connection, body: dict[str, Any], entry: Entry) -> EmbedCall:
        inputs = read_inputs(body)
        return EmbedCall(connection, entry, self._directive(inputs, faults.EMBED), self._gates, inputs)

    def _directive(self, texts: Iterable[str], known: frozenset[str]) -> Directive:
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
    )


def _carry_out(call: Call) -> str:
    """Answer the call, and return the outcome for its row; set it here where this raises."""
    try:
        if not call.ends_early():
            _answer_well(call)
    except ClientGoneError:
        call.lose()
        call.entry.outcome = "client_gone"
        raise
    except HungUpError:
        call.lose()
        call.entry.outcome = "fault"
        raise
    return "done" if call.directive.fault is None else "fault"


def _answer_well(call: Call) -> None:
    if isinstance(call, EmbedCall):
        call.answer()
    elif isinstance(call, ChatCall):
        if call.question.stream and call.directive.fault != "json_whole":
            StreamedAnswer(call).tell()
        else:
            call.answer_whole()
