"""The request for a usage in each chunk of a stream, and the upstreams that refuse it.

`stream_options.continuous_usage_stats` is an option of vLLM and SGLang. Other servers ignore it, and a few
refuse it. Where it is known, a stream that ends early is settled at what was generated.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ridges_proxy.billing.chat_request import CHUNK_USAGE_OPTION, without_chunk_usage

if TYPE_CHECKING:
    from ridges_proxy.upstream.attempt import Attempt

MAX_REMEMBERED = 1_000
"""Pairs of URL and model. Above it, the oldest one is asked for the option again."""

REFUSING_STATUSES = frozenset({400, 422})

logger = logging.getLogger(__name__)


class ChunkUsageOption:
    """Knows which models of which URLs refuse the option."""

    def __init__(self) -> None:
        self._refused_by: dict[tuple[str, str | None], None] = {}

    def body_for(self, body: bytes, url: str, model: str | None) -> bytes:
        """Return the body as the model accepts it: with the option, or without it."""
        return without_chunk_usage(body) if (url, model) in self._refused_by else body

    def remember_refusal(self, url: str, model: str | None) -> None:
        """Ask without the option from now on."""
        if (url, model) in self._refused_by:
            return
        if len(self._refused_by) >= MAX_REMEMBERED:
            del self._refused_by[next(iter(self._refused_by))]
        self._refused_by[url, model] = None
        logger.warning(
            "the upstream refuses the usage in each chunk: it is asked without it", extra={"model": model}
        )


def is_refusal(attempt: Attempt, response_body: bytes) -> bool:
    """Whether the upstream refused the request and named the option."""
    return attempt.upstream_status in REFUSING_STATUSES and CHUNK_USAGE_OPTION.encode() in response_body
