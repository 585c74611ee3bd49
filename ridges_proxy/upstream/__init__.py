"""The way to Chutes: the only part that knows `requests`."""

from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.byte_budget import BufferedBody
from ridges_proxy.upstream.client import ChutesClient
from ridges_proxy.upstream.error_text import refusal_words
from ridges_proxy.upstream.model_catalog import CatalogModel, fetch_catalog

__all__ = ["Attempt", "BufferedBody", "CatalogModel", "ChutesClient", "fetch_catalog", "refusal_words"]
