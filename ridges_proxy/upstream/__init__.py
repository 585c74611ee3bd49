"""The Chutes client. Only this package uses `requests`."""

from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.byte_budget import BufferedBody, released_on_error
from ridges_proxy.upstream.client import ChutesClient
from ridges_proxy.upstream.error_object import error_of_object, error_status
from ridges_proxy.upstream.error_text import read_error_text
from ridges_proxy.upstream.message_reader import AnswerMessage, ToolCall
from ridges_proxy.upstream.model_catalog import CatalogModel, fetch_catalog
from ridges_proxy.upstream.stream_reader import event_of
from ridges_proxy.upstream.strict_json import LARGE_BYTES
from ridges_proxy.upstream.usage_cost import with_cost
from ridges_proxy.upstream.vectors import NoVectorsError, parsed_vectors
from ridges_proxy.upstream.webhook import Webhook

__all__ = [
    "LARGE_BYTES",
    "AnswerMessage",
    "Attempt",
    "BufferedBody",
    "CatalogModel",
    "ChutesClient",
    "NoVectorsError",
    "ToolCall",
    "Webhook",
    "error_of_object",
    "error_status",
    "event_of",
    "fetch_catalog",
    "parsed_vectors",
    "read_error_text",
    "released_on_error",
    "with_cost",
]
