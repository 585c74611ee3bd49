"""Authentication of callers: their key or run token, and their address."""

from __future__ import annotations

import ipaddress
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flask import g

from ridges_proxy.errors import AddressNotAllowedError, InvalidApiKeyError
from ridges_proxy.runtime.turn_queue import Caller
from ridges_proxy.web.error_handlers import RUN_CLOSED
from ridges_proxy.web.request_state import request_state
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    from flask import Request

    from ridges_proxy.web.request_state import RequestState

SCHEME = "bearer "

KEY_MISSING = "there is no bearer token"
"""In the log: the reason why a request without a key is refused."""

ADMIN_KEY = "admin key"
"""The operator of a request with the admin key, in the audit trail. It names no key."""

IPV4 = 4
IPV6_NETWORK_BITS = 64

_ADDRESS_AND_PORT = re.compile(
    r"""(?P<ipv4> [0-9.]+ ) : [0-9]{1,5}
      | \[ (?P<ipv6> [0-9A-Fa-f]* : [0-9A-Fa-f:.]+ ) \] ( : [0-9]{1,5} )?
    """,
    re.VERBOSE,
)


def require_caller() -> None:
    """Accept a request with PROXY_API_KEY or a valid run token, from an allowed address.

    Sets `g.run_token`. None: the caller used the shared key, which may name any run. Raises
    InvalidApiKeyError, AddressNotAllowedError or RateLimitedError.
    """
    state = request_state()
    state.run_token, request = None, state.request
    if request.method == "OPTIONS":
        return  # a browser's CORS preflight carries no key, and its response has no data
    service = state.services
    settings = service.settings
    given = _bearer(request)
    if settings.require_run_tokens or not service.caller_keys.has(given):
        with _delaying_invalid_keys():
            _check_given(given)
            state.run_token = service.run_tokens.verify(given)
            _check_not_closed(state.run_token.run_id)
    if settings.allowed_ips and not address_allowed(caller_address(), settings.allowed_ips):
        raise AddressNotAllowedError
    service.rate_limits.admit_address(limited_address(state))


def require_operator() -> None:
    """Accept a request with ADMIN_API_KEY. Without that setting the operators' routes are not registered.

    Sets `g.operator`, the name of the operator in the audit trail.
    """
    check_operator_key(_bearer(request_state().request))
    g.operator = ADMIN_KEY


def check_operator_key(given: str) -> None:
    """Raise InvalidApiKeyError for any key but ADMIN_API_KEY; delayed if the address sent many of them."""
    if not services().operator_keys.has(given):
        with _delaying_invalid_keys():
            _check_given(given)
            raise InvalidApiKeyError


@contextmanager
def _delaying_invalid_keys() -> Iterator[None]:
    """Delay an InvalidApiKeyError if the caller's address has sent many invalid keys. Log its reason."""
    try:
        yield
    except InvalidApiKeyError as error:
        state = request_state()
        state.refusal_reason = error.reason
        state.services.key_throttle.delay(limited_address(state))
        raise


def _bearer(request: Request) -> str:
    header: str = request.environ.get("HTTP_AUTHORIZATION", "")
    return header[len(SCHEME) :].strip() if header[: len(SCHEME)].lower() == SCHEME else ""


def _check_given(key: str) -> None:
    if not key:
        refusal = InvalidApiKeyError()
        refusal.is_missing, refusal.reason = True, KEY_MISSING
        raise refusal


def _check_not_closed(run_id: str) -> None:
    """Refuse a closed run's token on reads. For calls, `reserve` itself refuses a closed run."""
    if request_state().request.method == "GET":
        usage = services().ledger.usage(run_id)
        if usage is not None and usage.closed:
            refusal = InvalidApiKeyError()
            refusal.reason = RUN_CLOSED
            raise refusal


def address_allowed(address: str | None, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    """Whether an address is in one of the networks. False for an address that cannot be parsed."""
    parsed = _parse_address(address or "")
    return parsed is not None and any(parsed in network for network in networks)


def caller_address() -> str | None:
    """The caller's address; None if it is unknown."""
    return _address_of(request_state())


def _address_of(state: RequestState) -> str | None:
    request, trusted_proxy_count = state.request, state.services.settings.trusted_proxy_count
    if not trusted_proxy_count:
        return request.remote_addr
    return None if _address_is_hidden(request, trusted_proxy_count) else _without_port(request.remote_addr)


def limited_address(state: RequestState) -> str:
    """The caller's address as limits count it. It is computed once for each request."""
    if state.limited_address is None:
        state.limited_address = rate_limit_key(_address_of(state))
    return state.limited_address


def _without_port(address: str | None) -> str | None:
    """Remove the port that some proxies write into X-Forwarded-For: IPV4:PORT or [IPV6]:PORT.

    A client uses a new port for each connection. With the port, limits would count each as a new client.
    """
    match = _ADDRESS_AND_PORT.fullmatch(address or "")
    return (match["ipv4"] or match["ipv6"]) if match else address


def turn_of(state: RequestState, run_id: str) -> Caller:
    """Whose turn a step of a request takes. A run token proves its run; a header or a body does not."""
    token = state.run_token
    return Caller(address_key(state), run_id) if token is None else Caller(token.run_id, token.run_id)


def address_key(state: RequestState) -> str:
    """The caller's address, as a key that is no run's: no run id has a line break."""
    return f"address\n{limited_address(state)}"


def rate_limit_key(address: str | None) -> str:
    """The key under which limits count an address: IPv6 by its /64 network, unknown addresses as one.

    An IPv6 client has at least a /64, 2**64 addresses (RFC 6177). With a new address for each call it would
    never reach a limit that counts single addresses.
    """
    if address and ":" not in address:
        return address  # not IPv6: there is no network to compute
    parsed = _parse_address(address or "")
    if parsed is None:
        return "unknown"
    return str(parsed if parsed.version == IPV4 else ipaddress.ip_network((parsed, IPV6_NETWORK_BITS), False))


def _address_is_hidden(request: Request, trusted_proxy_count: int) -> bool:
    """Whether X-Forwarded-For cannot be correct, so that the caller's address is unknown.

    In two cases ProxyFix keeps the nearest proxy's own address, which would then count as the caller's: if
    the header has fewer entries than there are trusted proxies, and if it has a double quote. ProxyFix
    reads a quote as the start of a quoted string, which includes the entries that the proxies append. No
    address has a quote.
    """
    forwarded = ",".join(request.headers.getlist("X-Forwarded-For"))
    if not forwarded:
        return False  # the caller did not pass a proxy: the connection's address is its own
    return '"' in forwarded or len(forwarded.split(",")) < trusted_proxy_count


def _parse_address(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    # A dual-stack listener reports an IPv4 peer as ::ffff:a.b.c.d.
    return getattr(parsed, "ipv4_mapped", None) or parsed
