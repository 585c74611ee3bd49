"""What the upstream publishes of its models: `GET …/models`, which needs no key."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from requests import Request

from ridges_proxy.billing.money import nanousd_from_usd
from ridges_proxy.errors import UpstreamBrokenError, UpstreamTimeoutError
from ridges_proxy.upstream.errors import LIBRARY_ERRORS, error_of_exception, error_of_status
from ridges_proxy.upstream.http.adapter import Adapter

if TYPE_CHECKING:
    from requests import Response

READ_BYTES = 65_536
MAX_CATALOGUE_BYTES = 16 << 20
"""Chutes' list of some hundred models is under 1 MiB."""

SILENCE_SECONDS = 10.0
TOTAL_SECONDS = 30.0

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "ridges-proxy"}


@dataclass(frozen=True, slots=True)
class Offer:
    """A model's published rates in nano-USD per million tokens; None where none is given that makes sense."""

    input_nanousd: int | None
    output_nanousd: int | None
    cached_input_nanousd: int | None = None


def fetch_catalogue(base_url: str, connect_timeout_seconds: float) -> dict[str, Offer]:
    """Ask the upstream what its models cost. Raises UpstreamError's kinds; what it answers is not trusted."""
    timeouts = (connect_timeout_seconds, SILENCE_SECONDS)
    sent = False
    try:
        request = Request("GET", f"{base_url}/models", headers=HEADERS).prepare()
        with (
            closing(Adapter(1)) as adapter,
            closing(adapter.send(request, stream=True, timeout=timeouts)) as response,
        ):
            sent = True
            content = _content(response)
    except LIBRARY_ERRORS as error:
        raise error_of_exception(error, sent=sent) from error
    return read_catalogue(content)


def read_catalogue(content: bytes) -> dict[str, Offer]:
    """Read the list. Models without a usable id are left out; raises UpstreamBrokenError if it is no list."""
    try:
        document = json.loads(content, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError, InvalidOperation):
        raise UpstreamBrokenError from None
    models = document.get("data") if isinstance(document, dict) else None
    if not isinstance(models, list):
        raise UpstreamBrokenError
    return {model["id"]: _offer(model) for model in models if _has_id(model)}


def _content(response: Response) -> bytes:
    if response.status_code != HTTPStatus.OK:
        raise error_of_status(response.status_code)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UpstreamBrokenError
    end = time.monotonic() + TOTAL_SECONDS
    content = bytearray()
    while chunk := response.raw.read1(READ_BYTES, decode_content=False):
        content += chunk
        if len(content) > MAX_CATALOGUE_BYTES:
            raise UpstreamBrokenError
        if time.monotonic() > end:
            raise UpstreamTimeoutError
    return bytes(content)


def _has_id(model: object) -> bool:
    return isinstance(model, dict) and isinstance(model.get("id"), str)


def _offer(model: dict[str, Any]) -> Offer:
    pricing = model.get("pricing")
    rates = pricing if isinstance(pricing, dict) else {}
    return Offer(
        _nanousd(rates.get("prompt")),
        _nanousd(rates.get("completion")),
        _nanousd(rates.get("input_cache_read")),
    )


def _nanousd(rate: object) -> int | None:
    """A rate as published: a JSON number. A text is none, nor is NaN, nor what no price can be."""
    try:
        return nanousd_from_usd(str(rate)) if isinstance(rate, Decimal) else None
    except ValueError:
        return None
