"""A stand-in for Chutes as fixtures, for all tests that run servers: a folder's conftest.py imports them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.stand_in_control import StandIn

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stand_in() -> Iterator[StandIn]:
    with StandIn() as started:
        yield started


@pytest.fixture
def chutes(stand_in: StandIn) -> StandIn:
    """The stand-in with empty books and closed gates."""
    stand_in.reset()
    stand_in.wait(idle=1)
    stand_in.reset()
    return stand_in
