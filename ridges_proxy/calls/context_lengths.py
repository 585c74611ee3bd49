"""The context lengths of models, from the list that the upstream publishes."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import gevent

from ridges_proxy.errors import UpstreamError, UpstreamTimeoutError
from ridges_proxy.upstream import fetch_catalog

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.config import Settings
    from ridges_proxy.upstream import CatalogModel

REFRESH_SECONDS = 3600.0
RETRY_SECONDS = 300.0
"""Time until the next request after one that failed."""

READ_SECONDS = 60.0
"""Deadline of one request. Without it an upstream that sends its head byte by byte would never end it."""

logger = logging.getLogger(__name__)


class ContextLengths:
    """The context lengths that the upstream named last. Nothing waits for them, and no cost depends on them.

    Each worker requests the list at its start and then once an hour, in a greenlet of its own.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._due_at: float | None = None
        self._is_failing = False
        self._tokens: dict[str, int] = {}

    def of(self, model: str) -> int | None:
        """Return the most tokens that a prompt and its answer may have; None if it is not known.

        The model has the name that the upstream gives it.
        """
        return self._tokens.get(model)

    def refresh(self) -> gevent.Greenlet[[], None] | None:
        """Start to read the list if it is time to. Called once a second; returns at once."""
        if self._due_at is not None and self._clock() < self._due_at:
            return None
        self._due_at = self._clock() + REFRESH_SECONDS
        return gevent.spawn(self._read)

    def _read(self) -> None:
        """Read the list. A failure is logged once, until the next success."""
        settings = self._settings
        try:
            with gevent.Timeout(READ_SECONDS, UpstreamTimeoutError()):
                models = fetch_catalog(settings.chutes_base_url, settings.connect_timeout_seconds)
        except UpstreamError as error:
            self._due_at = self._clock() + RETRY_SECONDS
            if not self._is_failing:
                logger.warning("the upstream's list of models was not read", extra={"code": error.code})
            self._is_failing = True
        else:
            self._tokens = _context_lengths(models)
            self._is_failing = False


def _context_lengths(models: dict[str, CatalogModel]) -> dict[str, int]:
    lengths = {name: model.context_tokens for name, model in models.items()}
    return {name: tokens for name, tokens in lengths.items() if tokens is not None}
