"""The address of a caller, over real sockets: an address that the client invents is ignored."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.process.row_fixtures import new_run
from tests.process.server import Proxy
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

OUTSIDE = (403, "ip_not_allowed")
INSIDE = (200, None)
ALLOWED_HERE = "127.0.0.1"
ALLOWED_THERE = "10.0.0.0/8"


class Case(NamedTuple):
    """Two settings, an optional X-Forwarded-For, and the expected answer."""

    trusted_proxies: int
    allowed: str
    forwarded: str | None
    outcome: tuple[int, str | None]


@pytest.fixture(scope="module")
def servers(fake_chutes: Upstream) -> Iterator[dict[tuple[int, str], Proxy]]:
    """Proxies by the number of trusted proxies and the allowed addresses. All else is the same."""
    keys = [(count, allowed) for count in (0, 1) for allowed in (ALLOWED_HERE, ALLOWED_THERE)]
    with ExitStack() as stack, ThreadPoolExecutor() as pool:

        def start(key: tuple[int, str]) -> Proxy:
            count, allowed = key
            proxy = Proxy(fake_chutes, TRUSTED_PROXY_COUNT=str(count), ALLOWED_IPS=allowed)
            return stack.enter_context(proxy)

        yield dict(zip(keys, pool.map(start, keys), strict=True))


@each_row(
    "case",
    [
        # No proxy is trusted: only the address of the peer counts.
        Case(0, ALLOWED_HERE, None, INSIDE),
        Case(0, ALLOWED_HERE, "8.8.8.8", INSIDE),
        Case(0, ALLOWED_THERE, None, OUTSIDE),
        Case(0, ALLOWED_THERE, "10.1.2.3", OUTSIDE),
        Case(0, ALLOWED_THERE, "10.1.2.3, 10.1.2.3", OUTSIDE),
        # One proxy is trusted: it wrote the last address. The client may have invented those before.
        Case(1, ALLOWED_THERE, "10.1.2.3", INSIDE),
        Case(1, ALLOWED_THERE, "8.8.8.8, 10.1.2.3", INSIDE),
        Case(1, ALLOWED_THERE, "10.1.2.3, 8.8.8.8", OUTSIDE),
        Case(1, ALLOWED_THERE, "10.1.2.3,,8.8.8.8", OUTSIDE),
        Case(1, ALLOWED_THERE, "10.1.2.3 8.8.8.8", OUTSIDE),
        Case(1, ALLOWED_THERE, '"10.1.2.3, 8.8.8.8', OUTSIDE),
        Case(1, ALLOWED_THERE, "nonsense", OUTSIDE),
        Case(1, ALLOWED_THERE, "::ffff:10.1.2.3", INSIDE),
        Case(1, ALLOWED_THERE, None, OUTSIDE),
        Case(1, ALLOWED_HERE, None, INSIDE),
        Case(1, ALLOWED_HERE, "8.8.8.8", OUTSIDE),
        Case(1, ALLOWED_HERE, "127.0.0.1, 8.8.8.8", OUTSIDE),
    ],
    before={"run": new_run},
)
def test_an_address_counts_only_where_a_trusted_proxy_wrote_it(
    servers: dict[tuple[int, str], Proxy], run: str, case: Case
) -> None:
    headers = {} if case.forwarded is None else {"X-Forwarded-For": case.forwarded}
    assert servers[case.trusted_proxies, case.allowed].infer(run, headers=headers).outcome == case.outcome


@each_row("name", ["Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP"], before={"run": new_run})
@each_row("count", [0, 1])
def test_other_headers_are_ignored(
    servers: dict[tuple[int, str], Proxy], run: str, name: str, count: int
) -> None:
    proxy = servers[count, ALLOWED_THERE]
    value = "for=10.1.2.3" if name == "Forwarded" else "10.1.2.3"
    assert proxy.infer(run, headers={name: value}).outcome == OUTSIDE


@each_row("name", ["X_Forwarded_For", "SCRIPT_NAME", "REMOTE_ADDR"], before={"run": new_run})
def test_a_header_with_an_underscore_is_not_taken_for_another_header(
    servers: dict[tuple[int, str], Proxy], run: str, name: str
) -> None:
    answer = servers[1, ALLOWED_THERE].infer(run, headers={name: "10.1.2.3"})
    assert answer.outcome == OUTSIDE


def test_a_repeated_header_is_read_as_one_list(servers: dict[tuple[int, str], Proxy], run: str) -> None:
    """A trusted proxy may add its header after that of the client."""
    with servers[1, ALLOWED_THERE].connect() as wire:
        wire.send(
            b"GET /agents/usage?run_id=%b HTTP/1.1\r\nHost: proxy\r\n"
            b"Authorization: Bearer proxy-key-of-the-tests\r\n"
            b"X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-For: 8.8.8.8\r\n\r\n" % run.encode()
        )
        assert wire.answer().outcome == OUTSIDE
