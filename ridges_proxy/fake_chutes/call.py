"""One call to a model: its directive, tokens and bill, and the failures before an answer."""

from __future__ import annotations

import gzip
import time
import uuid
from typing import TYPE_CHECKING, NoReturn

from . import faults, reply

if TYPE_CHECKING:
    from .books import Entry
    from .connection import Connection
    from .directive import Directive
    from .gates import Gates
    from .prices import Prices

HTML = b"<!doctype html><html><head><title>Just a moment...</title></head><body>Checking you.</body></html>"
MS_PER_SECOND = 1000
MISSING_BYTES = 100  # missing from a whole answer with `wrong_length`


class Call:
    """The common part of chat and embedding calls; the subclasses know the cost."""

    def __init__(self, connection: Connection, entry: Entry, directive: Directive, gates: Gates) -> None:
        self.connection = connection
        self.entry = entry
        self.directive = directive
        self._gates = gates
        self._started_ns = time.monotonic_ns()
        self._steps = None if directive.step is None else gates.steps(directive.step)
        self.billable = False
        entry.fault, entry.label = directive.fault, directive.label

    def bill(self, prices: Prices) -> int:
        """Return the nano-USD for the answer so far."""
        raise NotImplementedError

    def count_all(self) -> None:
        """Count the largest amounts that the whole answer could have."""

    def start_billing(self) -> None:
        """Begin the answer: from here on the caller pays."""
        self.billable = True
        self.entry.elapsed_ns = time.monotonic_ns() - self._started_ns

    def bill_lost_answer(self) -> None:
        """Bill an answer that was computed and not sent, if the directive has `billed`."""
        if self.directive.billed and not self.billable:
            self.start_billing()
            self.count_all()

    def gate(self, where: int | str) -> None:
        """Wait at this place if the directive has a gate here."""
        if self.directive.gate is not None and self.directive.gate_at == where:
            self._gates.stop_at(self.directive.gate, self.connection)

    def step(self) -> None:
        """Wait for a permit before a content event, if the directive has `step`."""
        if self._steps is not None:
            self._steps.take(self.connection)

    def answer_early(self) -> bool:
        """Wait as the directive says, then send the answer that replaces the real one, if any."""
        if self.directive.first_ms:
            self.connection.pause(self.directive.first_ms / MS_PER_SECOND)
        self.gate("headers")
        fault = self.directive.fault
        if fault in faults.NO_ANSWER:
            self._give_no_answer(fault)
        if fault in faults.EARLY_STATUSES:
            if fault == "gateway_timeout":
                self.bill_lost_answer()
            status, detail = faults.early_statuses(str(self.entry.model))[fault]
            self.connection.send(reply.json_answer(status, {"detail": detail}))
        elif fault == "html":
            self.connection.send(reply.whole(200, HTML, {"Content-Type": "text/html"}))
        elif fault == "redirect":
            self.connection.send(reply.whole(307, b"", {"Location": "/v1/elsewhere"}))
        else:
            return False
        return True

    def _give_no_answer(self, fault: str | None) -> NoReturn:
        if fault == "hang":
            self.connection.hold()
        if fault == "reset":
            self.connection.reset()
        self.connection.hang_up()

    def good_headers(self, content_type: str) -> dict[str, str]:
        """Return the headers of a 200."""
        self.entry.invocation_id = str(uuid.uuid4())
        headers = {"Content-Type": content_type, "X-Chutes-InvocationID": self.entry.invocation_id}
        if self.directive.fault == "cookie":
            headers["Set-Cookie"] = "chutes-session=remember-me; Path=/"
        return headers

    def send_whole(self, body: bytes) -> None:
        """Send a JSON answer in one piece, changed by the fault."""
        self.start_billing()
        headers = self.good_headers("application/json")
        match self.directive.fault:
            case "malformed":
                body = body[: len(body) // 2]
            case "gzip":
                body = gzip.compress(body)
                headers["Content-Encoding"] = "gzip"
            case "wrong_length":
                headers["Content-Length"] = str(len(body) + MISSING_BYTES)
        answer = reply.whole(200, body, headers)
        if self.directive.fault in {"cut", "reset_mid", "stall"}:
            self.connection.send(answer[: -(len(body) // 2)])
            self.break_off()
        self.connection.send(answer)
        if self.directive.fault == "wrong_length":
            self.connection.hang_up()

    def break_off(self) -> NoReturn:
        """End in the middle of an answer, as the fault says."""
        if self.directive.fault == "stall":
            self.connection.hold()
        if self.directive.fault == "reset_mid":
            self.connection.reset()
        self.connection.hang_up()
