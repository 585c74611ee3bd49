"""Fixtures of the tests that start processes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.process.examples import demo
from tests.process.server import Proxy
from tests.support.chutes import chutes, fake_chutes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.fake_chutes_control import Upstream


__all__ = ["chutes", "fake_chutes"]


@pytest.fixture(scope="session")
def shared_proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy with the default settings: no time limit is reached within a test.

    Its circuit breaker never opens, because the tests of many files fail one after the other.
    """
    with Proxy(fake_chutes, graceful=True, CIRCUIT_FAILURES="0") as started:
        yield started


@pytest.fixture(scope="session")
def brief_proxy(fake_chutes: Upstream) -> Iterator[Proxy]:
    """A proxy with short time limits."""
    with Proxy(
        fake_chutes,
        graceful=True,
        CIRCUIT_FAILURES="0",
        IDLE_TIMEOUT_SECONDS="0.6",
        DEADLINE_SECONDS="2",
        EMBEDDING_DEADLINE_SECONDS="0.5",
        BODY_TIMEOUT_SECONDS="0.6",
        WRITE_TIMEOUT_SECONDS="0.6",
        MAX_BODY_BYTES=str(32 << 20),
        MAX_COST_PER_RUN="100",
    ) as started:
        yield started


@pytest.fixture
def run() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def demo_url() -> Iterator[str]:
    """Start a demo. Yields its URL."""
    with demo() as url:
        yield url
