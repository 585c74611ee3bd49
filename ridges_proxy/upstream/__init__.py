"""The way to Chutes: the only part that knows `requests`."""

from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.byte_budget import BufferedBody
from ridges_proxy.upstream.client import ChutesClient
from ridges_proxy.upstream.error_text import refusal_words
from ridges_proxy.upstream.model_catalog import Offer, fetch_catalogue

__all__ = ["Attempt", "BufferedBody", "ChutesClient", "Offer", "fetch_catalogue", "refusal_words"]
