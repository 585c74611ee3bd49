"""Fixtures with a fake Chutes, for tests that start servers. The conftest.py of a folder imports them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.fake_chutes_control import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def fake_chutes() -> Iterator[Upstream]:
    with Upstream() as started:
        yield started


@pytest.fixture
def chutes(fake_chutes: Upstream) -> Upstream:
    """The fake Chutes without calls, and with closed gates."""
    return emptied(fake_chutes)


def emptied(fake_chutes: Upstream) -> Upstream:
    """Wait until the calls end, and forget them. For rows of a table that must not see earlier calls."""
    fake_chutes.reset()
    fake_chutes.wait(idle=1)
    fake_chutes.reset()
    return fake_chutes
