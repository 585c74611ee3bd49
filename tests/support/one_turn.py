"""Steps of several greenlets in the same turn of the hub, as in a worker process."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import gevent
import gevent.event

from ridges_proxy.errors import ProxyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

TIMEOUT_SECONDS = 20.0


def patch_as_gevent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch what `Batches` uses, as gevent does in a worker process."""
    monkeypatch.setattr(time, "sleep", gevent.sleep)
    monkeypatch.setattr(threading, "Event", gevent.event.Event)


def outcomes_in_one_turn(steps: Sequence[Callable[[], object]]) -> list[object]:
    """Run each step in a greenlet. Return their results, or their errors."""

    def outcome(step: Callable[[], object]) -> object:
        try:
            return step()
        except (ProxyError, ValueError) as error:
            return error

    greenlets = [gevent.spawn(outcome, step) for step in steps]
    return [each.get(timeout=TIMEOUT_SECONDS) for each in greenlets]
