from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.telemetry.logs import LIBRARIES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Put the loggers back as they were: every app sends them to the standard error of its own test."""
    kept = [logging.getLogger(name) for name in (ROOT, *LIBRARIES)]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in kept]
    yield
    for logger, state in zip(kept, before, strict=True):
        logger.handlers, logger.level, logger.propagate = state
