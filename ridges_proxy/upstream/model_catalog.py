"""The upstream's list of its models, with prices and context lengths: `GET …/models`, without a key."""

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
from ridges_proxy.runtime.json_structure import is_too_complex
from ridges_proxy.upstream.errors import LIBRARY_ERRORS, error_of_exception, error_of_status
from ridges_proxy.upstream.http.adapter import Adapter

if TYPE_CHECKING:
    from requests import Response

READ_BYTES = 65_536
MAX_CATALOG_BYTES = 4 << 20
"""Chutes' list of some hundred models is smaller than 1 MiB."""

MAX_CONTEXT_TOKENS = 1_000_000_000
"""Greater context lengths are taken for mistakes, as in MODEL_PRICES."""

IDLE_TIMEOUT_SECONDS = 10.0
TOTAL_TIMEOUT_SECONDS = 30.0

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "ridges-proxy"}


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model's published prices in nano-USD per million tokens, and its context length.

    None where no valid value is given.
    """

    input_nanousd: int | None
    output_nanousd: int | None
    cached_input_nanousd: int | None = None
    context_tokens: int | None = None


def fetch_catalog(base_url: str, connect_timeout_seconds: float) -> dict[str, CatalogModel]:
    """Return the upstream's models by name. Raises UpstreamError. The response is not trusted."""
    timeouts = (connect_timeout_seconds, IDLE_TIMEOUT_SECONDS)
    try:
        request = Request("GET", f"{base_url}/models", headers=HEADERS).prepare()
        with (
            closing(Adapter(1)) as adapter,
            closing(adapter.send(request, stream=True, timeout=timeouts)) as response,
        ):
            content = _read_content(response)
    except LIBRARY_ERRORS as error:
        raise error_of_exception(error, sent=False) from error  # it costs nothing
    return parse_catalog(content)


def parse_catalog(content: bytes) -> dict[str, CatalogModel]:
    """Parse the list; skip models without a valid id.

    Raises UpstreamBrokenError if it is not a list. One of 4 MiB with many small values would keep the hub for
    a second, so it is none either. 400 models with all fields of Chutes have 27,000 marks.
    """
    if is_too_complex(content):
        raise UpstreamBrokenError
    try:
        document = json.loads(content, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError, InvalidOperation):
        raise UpstreamBrokenError from None
    models = document.get("data") if isinstance(document, dict) else None
    if not isinstance(models, list):
        raise UpstreamBrokenError
    return {model["id"]: _catalog_model(model) for model in models if _has_id(model)}


def _read_content(response: Response) -> bytes:
    if response.status_code != HTTPStatus.OK:
        raise error_of_status(response.status_code)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UpstreamBrokenError
    deadline = time.monotonic() + TOTAL_TIMEOUT_SECONDS
    content = bytearray()
    while piece := response.raw.read1(READ_BYTES, decode_content=False):
        content += piece
        if len(content) > MAX_CATALOG_BYTES:
            raise UpstreamBrokenError
        if time.monotonic() > deadline:
            raise UpstreamTimeoutError
    return bytes(content)


def _has_id(model: object) -> bool:
    return isinstance(model, dict) and isinstance(model.get("id"), str)


def _catalog_model(model: dict[str, Any]) -> CatalogModel:
    pricing = model.get("pricing")
    prices = pricing if isinstance(pricing, dict) else {}
    return CatalogModel(
        _nanousd(prices.get("prompt")),
        _nanousd(prices.get("completion")),
        _nanousd(prices.get("input_cache_read")),
        _context_tokens(model.get("context_length")) or _context_tokens(model.get("max_model_len")),
    )


def _nanousd(price: object) -> int | None:
    """Return a published price; None unless it is a JSON number that is a valid price."""
    try:
        return nanousd_from_usd(str(price)) if isinstance(price, Decimal) else None
    except ValueError:
        return None


def _context_tokens(length: object) -> int | None:
    """Return a published context length: `context_length` of Chutes, or `max_model_len` of vLLM."""
    if isinstance(length, Decimal) and 1 <= length <= MAX_CONTEXT_TOKENS and length == int(length):
        return int(length)
    return None
