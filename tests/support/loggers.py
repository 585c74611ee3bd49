"""The service's loggers, which an app sends to the standard error of whoever made it."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ridges_proxy.telemetry.logs import LIBRARIES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def as_before() -> Iterator[None]:
    """Put the loggers back as they were."""
    kept = [logging.getLogger(name) for name in (ROOT, *LIBRARIES)]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in kept]
    yield
    for logger, state in zip(kept, before, strict=True):
        logger.handlers, logger.level, logger.propagate = state
