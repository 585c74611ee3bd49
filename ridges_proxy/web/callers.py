"""Who is calling: the key, and the address."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flask import g, request

from ridges_proxy.errors import AddressNotAllowedError, InvalidApiKeyError
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

SCHEME = "bearer "

IPV4 = 4
IPV6_NETWORK_BITS = 64


def require_caller() -> None:
    """Let a request pass that carries PROXY_API_KEY or a run token, and comes from an allowed address.

    Whose token it is stands in `g.run_token`; None for the shared key, which may name any run.
    """
    g.run_token = None
    if request.method == "OPTIONS":
        return  # a browser's preflight carries no key, and answers nothing
    here = services()
    settings = here.settings
    keys = settings.proxy_api_key, settings.proxy_api_key_previous
    given = _bearer()
    if settings.require_run_tokens or not _is_one_of(given, keys):
        with _slowing_down():
            g.run_token = here.run_tokens.verify(given)
            _check_open(g.run_token.run_id)
    address = caller_address()
    if settings.allowed_ips and not address_allowed(address, settings.allowed_ips):
        raise AddressNotAllowedError
    here.rate_limits.admit_address(limited_as(address))


def require_operator() -> None:
    """Let a request pass that carries ADMIN_API_KEY; where there is none, its routes are not registered."""
    check_operator_key(_bearer())


def check_operator_key(given: str) -> None:
    """Raise InvalidApiKeyError for a key that is not ADMIN_API_KEY, after a wait where that happens often."""
    settings = services().settings
    if not _is_one_of(given, (settings.admin_api_key, settings.admin_api_key_previous)):
        with _slowing_down():
            raise InvalidApiKeyError


@contextmanager
def _slowing_down() -> Iterator[None]:
    """Let whoever sends bad keys wait for the answer."""
    try:
        yield
    except InvalidApiKeyError:
        services().key_throttle.delay(limited_as(caller_address()))
        raise


def _is_one_of(given: str, keys: tuple[str | None, ...]) -> bool:
    """Whether it is one of the keys: all are compared, each in constant time."""
    digest = _digest(given)
    found = [hmac.compare_digest(digest, _digest(key)) for key in keys if key is not None]
    return any(found)


def _bearer() -> str:
    header = request.headers.get("Authorization", "")
    return header[len(SCHEME) :].strip() if header[: len(SCHEME)].lower() == SCHEME else ""


def _check_open(run_id: str) -> None:
    """A closed run's token is dead. What spends learns it where it is held, in one step with the books."""
    if request.method == "GET":
        books = services().ledger.usage(run_id)
        if books is not None and books.closed:
            raise InvalidApiKeyError


def address_allowed(address: str | None, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    """Whether an address lies in one of the networks; an unreadable one lies in none."""
    parsed = _parse_address(address or "")
    return parsed is not None and any(parsed in network for network in networks)


def caller_address() -> str | None:
    """The caller's address; None where it cannot be told."""
    return None if _address_is_hidden(services().settings.trusted_proxy_count) else request.remote_addr


def limited_as(address: str | None) -> str:
    """Who a limit counts an address as: all of an IPv6 network as one, and all that cannot be told as one.

    Whoever has IPv6 has a network of 2**64 addresses at the least (RFC 6177): with one a call, no limit would
    ever be reached.
    """
    if address and ":" not in address:
        return address  # no IPv6, and nothing to look at
    parsed = _parse_address(address or "")
    if parsed is None:
        return "unknown"
    return str(parsed if parsed.version == IPV4 else ipaddress.ip_network((parsed, IPV6_NETWORK_BITS), False))


def _address_is_hidden(trusted_proxy_count: int) -> bool:
    """Whether X-Forwarded-For cannot be what our proxies make of it.

    ProxyFix then leaves the nearest proxy's own address, and the caller would pass as that. It does so
    for a list with fewer entries than there are proxies, and for one with a quote, which ProxyFix reads
    as the start of a string that swallows what our proxies add after it. No address has quotes.
    """
    if not trusted_proxy_count:
        return False
    forwarded = ",".join(request.headers.getlist("X-Forwarded-For"))
    if not forwarded:
        return False  # who comes without passing a proxy is the nearest that there is
    return '"' in forwarded or len(forwarded.split(",")) < trusted_proxy_count


def _parse_address(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    # A dual-stack listener reports an IPv4 peer as ::ffff:a.b.c.d.
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _digest(key: str) -> bytes:
    """Equal lengths, so that the comparison's time does not tell the key's."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
