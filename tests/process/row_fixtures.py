"""Fixture values that the rows of a table must not share; for `before` of `each_row`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream


def reset(chutes: Upstream) -> Upstream:
    """Return the fake Chutes after the end of all earlier calls, without their records."""
    chutes.reset()
    chutes.wait(idle=1)
    chutes.reset()
    return chutes


def new_run(_: str) -> str:
    return uuid4().hex
