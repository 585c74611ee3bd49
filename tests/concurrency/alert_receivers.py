"""Alerts on their way to a real HTTP server that fails in many ways and comes back.

test_alert_delivery.py runs them in a process like a gunicorn worker, patched by gevent: only there a total
limit can end a read that goes on.
"""

from __future__ import annotations

import socket
import struct
from itertools import chain, repeat
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event
from gevent.server import StreamServer
from standardwebhooks import Webhook as Verifier

from ridges_proxy.calls.alerts import AlertDelivery, sender_of
from ridges_proxy.ledger.alert_lease import MAX_LEASE_SECONDS
from ridges_proxy.telemetry.metrics import Metrics
from ridges_proxy.upstream import Webhook, webhook
from tests.support.alert_store import AlertStore, alert_of
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Behaviour = Callable[["Receiver", socket.socket], None]

KEY = b"a key of the tests"
PATIENCE_SECONDS = 30.0
CUT_SECONDS = 0.05
"""The total limit while the server does not answer: it ends each try, so its length does not matter."""


class Receiver:
    """A server with a behaviour for each connection. After the last one it takes every alert."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        """The ids of the alerts that it answered with 204, in order."""
        self.connections = 0
        self.hangs = Event()
        self.may_end = Event()
        self._behaviours: Iterator[Behaviour] = repeat(take)
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def behave(self, *behaviours: Behaviour) -> None:
        """Behave so in the next connections."""
        self._behaviours = chain(behaviours, repeat(take))

    def close(self) -> None:
        self.may_end.set()
        self._server.stop()

    def _serve(self, connection: socket.socket, _address: object) -> None:
        self.connections += 1
        with connection:
            next(self._behaviours)(self, connection)


def read_request(connection: socket.socket) -> tuple[dict[str, str], bytes]:
    with connection.makefile("rb") as file:
        lines = list(iter(file.readline, b"\r\n"))
        pairs = (line.decode().strip().split(": ", 1) for line in lines[1:])
        headers = {name.lower(): value for name, value in pairs}
        return headers, file.read(int(headers["content-length"]))


def take(receiver: Receiver, connection: socket.socket) -> None:
    """Check the signature as a receiver does, and take the alert."""
    headers, body = read_request(connection)
    document = Verifier(KEY).verify(body, headers)
    assert document["data"]["id"] == headers["webhook-id"]
    receiver.taken.append(headers["webhook-id"])
    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


def fail(_: Receiver, connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 500 Error\r\nContent-Length: 0\r\n\r\n")


def redirect(receiver: Receiver, connection: socket.socket) -> None:
    """Send the client to a place that would take the alert."""
    read_request(connection)
    head = f"HTTP/1.1 307 Elsewhere\r\nLocation: {receiver.url}\r\nContent-Length: 0\r\n\r\n"
    connection.sendall(head.encode())


def reset(_: Receiver, connection: socket.socket) -> None:
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang(receiver: Receiver, connection: socket.socket) -> None:
    read_request(connection)
    receiver.hangs.set()
    receiver.may_end.wait(PATIENCE_SECONDS)


def trickle(receiver: Receiver, connection: socket.socket) -> None:
    """Send a head that never ends, a byte at a time: no silence is long."""
    read_request(connection)
    send_bytes(receiver, connection, b"HTTP/1.1 200 OK\r\nX: ")


def trickle_body(receiver: Receiver, connection: socket.socket) -> None:
    """Take the alert, and send a body that never ends."""
    headers, _ = read_request(connection)
    receiver.taken.append(headers["webhook-id"])
    send_bytes(receiver, connection, b"HTTP/1.1 200 OK\r\n\r\n")


def flood(receiver: Receiver, connection: socket.socket) -> None:
    """Take the alert, and send as much as the client reads."""
    headers, _ = read_request(connection)
    receiver.taken.append(headers["webhook-id"])
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not receiver.may_end.is_set():
        try:
            connection.sendall(b"x" * 65_536)
        except OSError:
            return


def send_bytes(receiver: Receiver, connection: socket.socket, head: bytes) -> None:
    connection.sendall(head)
    while not receiver.may_end.wait(0.001):
        try:
            connection.sendall(b"x")
        except OSError:
            return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.close()


def delivery_to(receiver: Receiver, store: AlertStore, clock: Clock) -> AlertDelivery:
    send = sender_of(Webhook(receiver.url, KEY), "json")
    return AlertDelivery(store, Metrics(), send, clock=clock, monotonic=clock)


def deliver(*deliveries: AlertDelivery) -> None:
    """Let the processes do what a second brings, at the same time, and wait for its end."""
    started = [delivery.deliver() for delivery in deliveries]
    for greenlet in started:
        assert greenlet is not None
        greenlet.get(timeout=PATIENCE_SECONDS)


def test_an_alert_is_taken_once_by_a_receiver_that_fails_and_comes_back(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(behaviour: Behaviour) -> None:
        receiver.taken.clear()
        receiver.behave(behaviour)
        clock = Clock()
        store = AlertStore(clock, alert_of(1))
        delivery = delivery_to(receiver, store, clock)
        with monkeypatch.context() as patch:
            if behaviour in (hang, trickle):
                patch.setattr(webhook, "TOTAL_TIMEOUT_SECONDS", CUT_SECONDS)
            deliver(delivery)
        takes = behaviour in (take, trickle_body, flood)
        assert (receiver.taken, store.kept()) == ((["alert-1"], []) if takes else ([], ["alert-1"]))
        clock.advance(MAX_LEASE_SECONDS)
        deliver(delivery)
        assert (receiver.taken, store.kept()) == (["alert-1"], [])

    check_rows([take, fail, redirect, reset, hang, trickle, trickle_body, flood], check)


def test_many_processes_deliver_each_alert_once_while_the_receiver_fails(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"alert-{number}" for number in range(20)]
    clock = Clock()
    store = AlertStore(clock, *map(alert_of, range(20)))
    deliveries = [delivery_to(receiver, store, clock) for _ in range(4)]
    receiver.behave(*[fail, reset, redirect, hang, trickle] * 4)
    with monkeypatch.context() as patch:
        patch.setattr(webhook, "TOTAL_TIMEOUT_SECONDS", CUT_SECONDS)
        for _ in range(5):
            deliver(*deliveries)
    assert (receiver.taken, sorted(store.claims)) == ([], sorted(ids))
    receiver.behave()
    clock.advance(MAX_LEASE_SECONDS)
    deliver(*deliveries)
    assert sorted(receiver.taken) == sorted(ids)
    assert store.kept() == []


def test_alerts_arrive_in_their_order_after_an_outage(receiver: Receiver) -> None:
    ids = [f"alert-{number}" for number in range(6)]
    clock = Clock()
    store = AlertStore(clock, *map(alert_of, range(6)))
    delivery = delivery_to(receiver, store, clock)
    receiver.behave(*[fail] * 6)
    for _ in ids:
        deliver(delivery)
    clock.advance(MAX_LEASE_SECONDS)
    deliver(delivery)
    assert receiver.taken == ids


def test_a_receiver_that_hangs_holds_one_post_of_a_process_and_nothing_else(receiver: Receiver) -> None:
    clock = Clock()
    delivery = delivery_to(receiver, AlertStore(clock, alert_of(1), alert_of(2)), clock)
    receiver.behave(hang)
    delivering = delivery.deliver()
    assert delivering is not None
    assert receiver.hangs.wait(PATIENCE_SECONDS)
    assert delivery.deliver() is None
    gevent.sleep(0)  # the other greenlets run
    assert (receiver.connections, delivering.dead) == (1, False)
    delivery.stop()
    receiver.may_end.set()
    delivering.join(PATIENCE_SECONDS)
    assert delivering.dead
    assert (receiver.connections, receiver.taken) == (1, [])
