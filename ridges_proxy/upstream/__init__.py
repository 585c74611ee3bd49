"""The way to Chutes: the only part that knows `requests`."""

from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.catalogue import Offer, fetch_catalogue
from ridges_proxy.upstream.chutes import ChutesClient
from ridges_proxy.upstream.words import refusal_words

__all__ = ["Attempt", "ChutesClient", "Offer", "fetch_catalogue", "refusal_words"]
