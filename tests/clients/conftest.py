"""Fixtures of the tests that drive other clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.scenarios import RUN_TOKEN_KEY
from tests.process.server import Proxy
from tests.support.chutes import chutes, fake_chutes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream

__all__ = ["chutes", "fake_chutes"]


@pytest.fixture(scope="session")
def proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy for all clients. A call that has to wait for its run's other calls is refused soon."""
    with Proxy(
        fake_chutes, HOLD_WAIT_SECONDS="0.1", CIRCUIT_FAILURES="0", RUN_TOKEN_KEY=RUN_TOKEN_KEY
    ) as started:
        yield started
