"""Restore the loggers of the service. Each new app sends them to the standard error of its test."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ridges_proxy.telemetry.logs import LIBRARIES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def as_before() -> Iterator[None]:
    """Restore the handlers, the level and the propagation of the loggers at the end."""
    loggers = [logging.getLogger(name) for name in (ROOT, *LIBRARIES)]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, state in zip(loggers, before, strict=True):
        logger.handlers, logger.level, logger.propagate = state
