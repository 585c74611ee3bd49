"""The delivery of alerts in a process like a gunicorn worker: patched by gevent, so any wait can be ended."""

from __future__ import annotations

from tests.support.patched_pytest import assert_passes

PATCH = """
from gevent import monkey
monkey.patch_all()
"""


def test_alerts_reach_a_receiver_that_fails_and_comes_back() -> None:
    assert_passes("tests/concurrency/alert_receivers.py", patch=PATCH, timeout_seconds=120)
