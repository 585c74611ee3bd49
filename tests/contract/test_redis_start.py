"""Redis servers that cannot be used: the reason at the start, in the proxy's own words."""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.config import LedgerSettings, load_settings
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Kind, LedgerOpeningError, Run, check_ledger_store
from ridges_proxy.ledger.factory import disconnecting, open_ledger
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "hidden-password"
OWN_WORDS = (
    *("Errno", "Error ", "Timeout", "connecting to", "_ssl.c", "redis.", "Exception", "codec", "args"),
    *("NOAUTH", "ERR", "Protocol", SECRET),
)
"""Parts of texts of redis-py, of the system, and of Redis. None may be in a reason."""


class Answering:
    """A server that is no Redis. It has one reply to all commands.

    None: it sends nothing. Empty: it closes each connection.
    """

    def __init__(self, reply: bytes | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, args=(reply,), daemon=True).start()

    def close(self) -> None:
        for each in (*self._open, self._listener):
            each.close()

    def _serve(self, reply: bytes | None) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                if reply is not None:
                    threading.Thread(target=self._answer, args=(connection, reply), daemon=True).start()

    @staticmethod
    def _answer(connection: socket.socket, reply: bytes) -> None:
        """Send the reply to each command: a command begins with `*`."""
        with contextlib.suppress(OSError), connection:
            while reply and (sent := connection.recv(10_000)):
                connection.sendall(reply * max(1, sent.count(b"*")))


def settings_of(url: str, **others: str) -> LedgerSettings:
    return load_settings(LedgerSettings, {"LEDGER_URL": url, "LEDGER_TIMEOUT_SECONDS": "0.5", **others})


def reason_of_start(url: str) -> str:
    with pytest.raises(LedgerOpeningError) as caught:
        check_ledger_store(settings_of(url))
    text = str(caught.value)
    named, _, reason = text.partition(" cannot be used: ")
    assert named.startswith(("redis://", "rediss://", "redis+", "rediss+"))
    assert SECRET not in named
    assert not [part for part in OWN_WORDS if part in reason]
    return reason


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """The port of a Redis in each state, and of servers that are no Redis."""
    with ExitStack() as stack:
        plain, locked, full, replica, limited = (stack.enter_context(RedisServer()) for _ in range(5))
        replica.ask("REPLICAOF", "127.0.0.1", plain.port)
        limited.ask("ACL", "SETUSER", "limited", "on", f">{SECRET}", "~x", "+ping")
        full.ask("CONFIG", "SET", "maxmemory", "1")
        locked.ask("CONFIG", "SET", "requirepass", SECRET)
        others = {name: Answering(reply) for name, reply in REPLIES.items()}
        for other in others.values():
            stack.callback(other.close)
        yield {
            "plain": plain.port,
            "locked": locked.port,
            "full": full.port,
            "replica": replica.port,
            "limited": limited.port,
            "nothing": free_port(),
            **{name: other.port for name, other in others.items()},
        }


REPLIES = {
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "silent": None,
    "closing": b"",
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "misconf": b"-MISCONF Redis is configured to save RDB snapshots\r\n",
    "noreplicas": b"-NOREPLICAS Not enough good replicas to write.\r\n",
    "odd": b"-ERR something else about " + SECRET.encode() + b"\r\n",
}

NO_TLS = "there is no TLS connection: it offers no TLS, or a certificate file is not right"
LATE = "it did not answer in time (LEDGER_TIMEOUT_SECONDS)"
REFUSED = "it refuses connections, or it does not run"
CLOSED = "it closed the connection"
NO_LOGIN = "it needs a password, or a user and a password"

REASONS = [
    ("redis://:{secret}@127.0.0.1:{nothing}", REFUSED),
    ("redis+cluster://127.0.0.1:{nothing}", REFUSED),
    ("redis+sentinel://127.0.0.1:{nothing}/main", "no sentinel answers that knows a master of this service"),
    ("redis://nowhere.invalid", "its host name is not known"),
    ("redis+cluster://nowhere.invalid", "its host name is not known"),
    ("redis://a..b", "its host name is not valid"),
    ("redis+sentinel://a..b/main", "its host name is not valid"),
    ("redis+cluster://a..b", "its host name is not valid"),
    ("redis://127.0.0.1:{silent}", LATE),
    ("redis+cluster://127.0.0.1:{silent}", LATE),
    ("redis://127.0.0.1:{closing}", CLOSED),
    ("redis://127.0.0.1:{http}", "it is no Redis: its reply has another form"),
    ("redis://127.0.0.1:{loading}", "it is still loading its data"),
    ("redis://127.0.0.1:{misconf}", "it refuses writes, because it cannot save them to its disk"),
    ("redis://127.0.0.1:{noreplicas}", "it refuses writes, because too few replicas are connected"),
    ("redis://127.0.0.1:{odd}", "it refused a command"),
    ("redis://127.0.0.1:{locked}", NO_LOGIN),
    ("redis+cluster://127.0.0.1:{locked}", NO_LOGIN),
    ("redis://:wrong@127.0.0.1:{locked}", "its user or its password is wrong"),
    (
        "redis://limited:{secret}@127.0.0.1:{limited}",
        "its user may not use all commands and keys that the ledger needs (ACL)",
    ),
    ("redis://127.0.0.1:{plain}/99", "it has no database with this number"),
    ("redis://127.0.0.1:{replica}", "it is a replica, which cannot be written to"),
    ("redis://127.0.0.1:{full}", "its memory is full (maxmemory)"),
    ("redis+cluster://127.0.0.1:{plain}", "its cluster mode is off"),
    ("redis+sentinel://127.0.0.1:{plain}/main", "it is no sentinel"),
    ("rediss://127.0.0.1:{plain}", NO_TLS),
    ("rediss://127.0.0.1:{http}", NO_TLS),
    ("rediss+cluster://127.0.0.1:{http}", NO_TLS),
    ("rediss://127.0.0.1:{plain}?ssl_ca_certs=/nowhere.pem", "a file that its options name does not exist"),
    ("rediss://127.0.0.1:{plain}?ssl_certfile=/etc/passwd", NO_TLS),
]


def test_a_redis_that_cannot_be_used_is_named_with_the_reason(ports: dict[str, int]) -> None:
    def check(row: tuple[str, str]) -> None:
        url, reason = row
        assert reason_of_start(url.format(secret=SECRET, **ports)) == reason

    check_rows(REASONS, check)


def test_while_the_server_runs_every_such_error_means_that_the_ledger_is_unavailable(
    ports: dict[str, int],
) -> None:
    def check(row: tuple[str, str]) -> None:
        with disconnecting(open_ledger(settings_of(row[0].format(secret=SECRET, **ports)))) as ledger:
            for _ in range(2):
                with pytest.raises(LedgerUnavailableError):
                    ledger.ping()

    check_rows(REASONS, check)


def test_the_setting_for_replicas_refuses_holds_that_no_replica_has(ports: dict[str, int]) -> None:
    settings = settings_of(f"redis://127.0.0.1:{ports['limited']}", LEDGER_WAIT_REPLICAS="1")
    with disconnecting(open_ledger(settings)) as ledger:
        with pytest.raises(LedgerUnavailableError) as caught:
            ledger.reserve(Run("run", 1), Kind.INFERENCE, 1, 1, 60.0)
        assert "too few replicas" in str(caught.value.__cause__)
