"""Refused requests have a limit by their bytes."""

from __future__ import annotations

import pytest

from ridges_proxy.errors import RefusedBytesError
from ridges_proxy.runtime.refused_bytes import WINDOW_SECONDS, RefusedBytes
from tests.support.clock import Clock


def test_a_key_is_refused_from_its_limit_until_its_window_ends() -> None:
    clock = Clock()
    refused = RefusedBytes(10, clock)
    refused.add("run", 9)
    refused.check("run")
    clock.advance(20)
    refused.add("run", 1)
    refused.check("other")
    with pytest.raises(RefusedBytesError) as error:
        refused.check("run")
    assert error.value.retry_after_seconds == WINDOW_SECONDS - 20
    clock.advance(WINDOW_SECONDS - 20)
    refused.check("run")


def test_windows_that_have_ended_are_removed() -> None:
    clock = Clock()
    refused = RefusedBytes(10, clock)
    for number in range(5):
        refused.add(f"run {number}", 1)
        clock.advance(WINDOW_SECONDS / 4)
    refused.check("run 4")
    assert len(refused._windows) == 3
    assert refused.is_used
    clock.advance(WINDOW_SECONDS)
    refused.check("run 4")
    assert not refused.is_used
