"""The races in a process like a gunicorn worker: patched by gevent, so its locks are those of gevent."""

from __future__ import annotations

from tests.support.patched_pytest import assert_passes

PATCH = """
from gevent import monkey
monkey.patch_all()
import threading, gevent.thread
assert threading.Lock is gevent.thread.allocate_lock
"""


def test_every_race_has_the_same_result_in_a_process_patched_by_gevent() -> None:
    assert_passes("tests/concurrency/test_races.py", patch=PATCH, timeout_seconds=220)
