"""Parsers of the settings' values. The texts of their ValueErrors follow the setting's name."""

from __future__ import annotations

import importlib.util
import ipaddress
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from ridges_proxy.billing.money import DECIMAL, nanousd_from_usd
from ridges_proxy.config.ledger_url import SQLITE_MEMORY
from ridges_proxy.runtime import webhook_signature

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Network, IPv6Network

T = TypeVar("T")

ANY_ORIGIN = ("*",)
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?")
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")

MIN_SIGNING_KEY_CHARACTERS = 32

MAX_PERCENTS = 10
"""Each may cause an alert of each budget."""

OTLP_EXPORTER = "opentelemetry.exporter.otlp.proto.http"

IPV4_MAPPED_BITS = 96
"""Length of the prefix ::ffff:0:0, which marks an IPv6 address as a mapped IPv4 address."""


def text(raw: str) -> str:
    """Read any text."""
    return raw


def _check_visible(raw: str) -> None:
    if any(not "!" <= char <= "~" for char in raw):
        raise ValueError("must have visible ASCII characters only, without spaces")


def optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """Read empty text as None."""
    return lambda raw: parse(raw) if raw else None


def secret(raw: str) -> str:
    """Read a key. Headers carry it, so it must be visible ASCII."""
    _check_visible(raw)
    return raw


def token_key(raw: str) -> str:
    """Read the secret of HS256 run tokens. Its minimum length prevents guessing (RFC 7518, 3.2)."""
    if raw.startswith(("-----BEGIN", "ssh-", "{")):
        raise ValueError("is not a shared secret: a public key belongs in RUN_TOKEN_PUBLIC_KEY, as PEM")
    return signing_key(raw)


def signing_key(raw: str) -> str:
    """Read a secret that signs with HMAC-SHA256."""
    _check_visible(raw)
    if len(raw) < MIN_SIGNING_KEY_CHARACTERS:
        raise ValueError(f"must have at least {MIN_SIGNING_KEY_CHARACTERS} characters")
    return raw


def webhook_key(raw: str) -> str:
    """Read a secret that signs webhooks. After `whsec_`, it must be base64."""
    webhook_signature.signing_key(signing_key(raw))
    return raw


def ed25519_public_key(raw: str) -> str:
    """Read an Ed25519 public key from PEM or from the path of a PEM file. Returns PEM."""
    # Imported here, because the library takes 9 MB, which a server without such a key does not need.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        pem = raw if raw.startswith("-----BEGIN") else Path(raw).read_text(encoding="ascii")
        key = load_pem_public_key(pem.encode("ascii"))
    except OSError as error:
        raise ValueError(f"names a file that cannot be read: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is not a public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("must be an Ed25519 key")  # noqa: TRY004 - parsers raise ValueError only
    return pem


def flag(raw: str) -> bool:
    """Read a switch."""
    return choice("0", "1", "false", "true", "no", "yes", "off", "on")(raw) in {"1", "true", "yes", "on"}


def url(raw: str) -> str:
    """Read an http or https URL. Removes a slash at the end."""
    _check_url(raw)
    if "?" in raw:
        raise ValueError("must be a URL without query")
    return raw.rstrip("/")


def webhook_url(raw: str) -> str:
    """Read an http or https URL that may have a query. The library that posts to it accepts no other host."""
    _check_url(raw)
    if not _HOST_AND_PORT.fullmatch(urlsplit(raw).netloc):
        raise ValueError("must be a URL with the name or address of a host")
    return raw


def _check_url(raw: str) -> None:
    try:
        parts = urlsplit(raw)
        _ = parts.port  # raises ValueError if it is not a port
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    _check_visible(raw)
    if parts.username is not None or "#" in raw:
        raise ValueError("must be a URL without user and fragment")


def otlp_url(raw: str) -> str:
    """Read the URL of an OpenTelemetry collector. The packages for it must be installed."""
    try:
        found = importlib.util.find_spec(OTLP_EXPORTER)
    except ModuleNotFoundError:  # one of its parents is missing
        found = None
    if found is None:
        raise ValueError("needs packages that are not installed: pip install 'ridges-proxy[traces]'")
    return url(raw)


def usd(raw: str) -> int:
    """Read an amount in USD as nano-USD."""
    return nanousd_from_usd(raw)


def integer(minimum: int, maximum: int) -> Callable[[str], int]:
    """Read an integer within bounds."""

    def parse(raw: str) -> int:
        if not raw.isascii() or not raw.isdigit() or not minimum <= int(raw) <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return int(raw)

    return parse


def seconds(minimum: float, maximum: float) -> Callable[[str], float]:
    """Read a number of seconds within bounds."""

    def parse(raw: str) -> float:
        value = float(raw) if DECIMAL.fullmatch(raw) else math.nan
        if not minimum <= value <= maximum:
            raise ValueError(f"must be a number of seconds from {minimum:.10g} to {maximum:.10g}")
        return value

    return parse


def percents(raw: str) -> tuple[int, ...]:
    """Read whole percentages in ascending order, each once. `off` is none."""
    if raw.casefold() == "off":
        return ()
    found = entries(raw)
    try:
        percentages = sorted(map(integer(1, 100), found))
    except ValueError:
        percentages = []
    if not 0 < len(percentages) <= MAX_PERCENTS or len(set(percentages)) < len(percentages):
        raise ValueError(f"must be 1 to {MAX_PERCENTS} different whole numbers from 1 to 100, or off")
    return tuple(percentages)


def choice(*allowed: str) -> Callable[[str], str]:
    """Read one of the allowed values. Ignores case."""

    def parse(raw: str) -> str:
        for value in allowed:
            if raw.casefold() == value.casefold():
                return value
        raise ValueError(f"must be one of {', '.join(allowed)}")

    return parse


def entries(raw: str) -> tuple[str, ...]:
    """Read a comma-separated list."""
    return tuple(entry for part in raw.split(",") if (entry := part.strip()))


def origins(raw: str) -> tuple[str, ...]:
    """Read origins, or a single *. Refuses patterns: the CORS library reads them as regular expressions."""
    found = entries(raw)
    if found != ANY_ORIGIN and not all(_ORIGIN.fullmatch(entry) for entry in found):
        raise ValueError("must be * or a list of origins such as https://app.example.com")
    return found


def networks(raw: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read addresses and CIDR networks."""
    found = []
    for entry in entries(raw):
        try:
            found.append(_unmapped(ipaddress.ip_network(entry)))
        except ValueError as error:
            raise ValueError(f"has an entry that is not an address or network: {error}") from None
    return tuple(found)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Return the IPv4 network for ::ffff:a.b.c.d. Callers' addresses are converted in the same way."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < IPV4_MAPPED_BITS:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - IPV4_MAPPED_BITS))


def file_path(raw: str) -> str:
    """Read the path of a file, which may not exist yet."""
    if raw.endswith("/") or "\0" in raw:
        raise ValueError("must be the path of a file")
    if SQLITE_MEMORY in raw.lower():
        raise ValueError(f"must be the path of a file: {SQLITE_MEMORY} is SQLite's memory")
    return raw
