"""Who is calling, over real sockets: an address that a client makes up counts for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.process.server import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

OUTSIDE = (403, "ip_not_allowed")
INSIDE = (200, None)
ALLOWED_HERE = "127.0.0.1"
ALLOWED_THERE = "10.0.0.0/8"


class Case(NamedTuple):
    """Two settings, an X-Forwarded-For if any, and what comes of it."""

    trusted_proxies: int
    allowed: str
    forwarded: str | None
    outcome: tuple[int, str | None]


@pytest.fixture(scope="module")
def servers(fake_chutes: Upstream) -> Iterator[dict[tuple[int, str], Proxy]]:
    """By the number of trusted proxies and the allowed addresses; no other parts differ."""
    keys = [(count, allowed) for count in (0, 1) for allowed in (ALLOWED_HERE, ALLOWED_THERE)]
    with (
        Proxy(fake_chutes, TRUSTED_PROXY_COUNT="0", ALLOWED_IPS=ALLOWED_HERE) as first,
        Proxy(fake_chutes, TRUSTED_PROXY_COUNT="0", ALLOWED_IPS=ALLOWED_THERE) as second,
        Proxy(fake_chutes, TRUSTED_PROXY_COUNT="1", ALLOWED_IPS=ALLOWED_HERE) as third,
        Proxy(fake_chutes, TRUSTED_PROXY_COUNT="1", ALLOWED_IPS=ALLOWED_THERE) as fourth,
    ):
        yield dict(zip(keys, (first, second, third, fourth), strict=True))


@pytest.mark.parametrize(
    "case",
    [
        # Nobody is trusted: the peer's address alone counts, whatever it says.
        Case(0, ALLOWED_HERE, None, INSIDE),
        Case(0, ALLOWED_HERE, "8.8.8.8", INSIDE),
        Case(0, ALLOWED_THERE, None, OUTSIDE),
        Case(0, ALLOWED_THERE, "10.1.2.3", OUTSIDE),
        Case(0, ALLOWED_THERE, "10.1.2.3, 10.1.2.3", OUTSIDE),
        # One proxy is trusted: the last address is its, all before it is the client's to make up.
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
    ids=lambda case: f"{case.trusted_proxies} {case.allowed} {case.forwarded}",
)
def test_an_address_counts_only_where_a_trusted_proxy_wrote_it(
    servers: dict[tuple[int, str], Proxy], run: str, case: Case
) -> None:
    headers = {} if case.forwarded is None else {"X-Forwarded-For": case.forwarded}
    assert servers[case.trusted_proxies, case.allowed].infer(run, headers=headers).outcome == case.outcome


@pytest.mark.parametrize("name", ["Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP"])
@pytest.mark.parametrize("count", [0, 1])
def test_other_headers_count_for_nothing(
    servers: dict[tuple[int, str], Proxy], run: str, name: str, count: int
) -> None:
    proxy = servers[count, ALLOWED_THERE]
    value = "for=10.1.2.3" if name == "Forwarded" else "10.1.2.3"
    assert proxy.infer(run, headers={name: value}).outcome == OUTSIDE


@pytest.mark.parametrize("name", ["X_Forwarded_For", "SCRIPT_NAME", "REMOTE_ADDR"])
def test_a_header_with_an_underscore_passes_for_no_other(
    servers: dict[tuple[int, str], Proxy], run: str, name: str
) -> None:
    answer = servers[1, ALLOWED_THERE].infer(run, headers={name: "10.1.2.3"})
    assert answer.outcome == OUTSIDE


def test_a_repeated_header_is_read_as_one_list(servers: dict[tuple[int, str], Proxy], run: str) -> None:
    """The proxy may add a header of its own below the client's."""
    with servers[1, ALLOWED_THERE].connect() as wire:
        wire.send(
            b"GET /agents/usage?run_id=%b HTTP/1.1\r\nHost: proxy\r\n"
            b"Authorization: Bearer proxy-key-of-the-tests\r\n"
            b"X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-For: 8.8.8.8\r\n\r\n" % run.encode()
        )
        assert wire.answer().outcome == OUTSIDE
