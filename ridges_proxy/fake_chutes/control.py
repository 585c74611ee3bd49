"""The control API, by which tests steer the fake Chutes and read its records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import faults, reply
from .books import AT_LEAST
from .directive import Directive, DirectiveError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .books import Books
    from .connection import Connection
    from .gates import Gates
    from .request import Request

PREFIX = "/fake-chutes/"
WAIT_SECONDS = 10.0
MAX_WAIT_SECONDS = 120.0


class Control:
    """The routes below /fake-chutes/, and the default directive."""

    def __init__(self, books: Books, gates: Gates) -> None:
        self._books = books
        self._gates = gates
        self.default = Directive()
        self._reports: dict[str, Callable[[], object]] = {
            "books": books.everything,
            "bills": books.bills,
            "faults": _faults,
        }

    def answer(self, connection: Connection, request: Request) -> bytes:
        """Carry out the request, and return the bytes of the answer."""
        match request.method, request.path.removeprefix(PREFIX):
            case "GET", what if what in self._reports:
                return reply.json_answer(200, self._reports[what]())
            case "POST", "reset":
                self._reset()
            case "POST", "default":
                return self._set_default(request.body)
            case "POST", "release" if request.query.get("gate"):
                self._gates.open(request.query["gate"])
            case "POST", "step" if request.query.get("gate"):
                self._gates.steps(request.query["gate"]).give()
            case "GET", "wait":
                return self._wait(connection, request.query)
            case _:
                return reply.json_answer(404, {"detail": "fake Chutes: no such control"})
        return reply.json_answer(200, self._books.counters())

    def _reset(self) -> None:
        self.default = Directive()
        self._books.reset()
        self._gates.reset()

    def _set_default(self, body: bytes) -> bytes:
        try:
            self.default = Directive.parse(body)
        except DirectiveError as error:
            return reply.json_answer(400, {"detail": str(error)})
        return reply.json_answer(200, self._books.counters())

    def _wait(self, connection: Connection, query: dict[str, str]) -> bytes:
        wanted = {name: value for name, value in query.items() if name != "timeout_seconds"}
        unknown = wanted.keys() - AT_LEAST - {"idle"}
        if unknown or not all(value.isdecimal() for value in wanted.values()):
            return reply.json_answer(400, {"detail": f"fake Chutes: cannot wait for {wanted}"})
        conditions = {name: int(value) for name, value in wanted.items()}
        try:
            seconds = min(float(query.get("timeout_seconds", WAIT_SECONDS)), MAX_WAIT_SECONDS)
        except ValueError:
            return reply.json_answer(400, {"detail": "fake Chutes: timeout_seconds"})
        held = self._books.wait(conditions, seconds, connection)
        return reply.json_answer(200 if held else 504, self._books.counters())


def _faults() -> dict[str, list[str]]:
    return {
        "stream": sorted(faults.STREAM),
        "chat": sorted(faults.CHAT),
        "embed": sorted(faults.EMBED),
    }
