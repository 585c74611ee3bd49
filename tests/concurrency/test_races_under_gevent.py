"""The races in a process like a gunicorn worker: patched by gevent, so its locks are those of gevent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RACES = "tests/concurrency/test_races.py"
PROGRAM = f"""
from gevent import monkey
monkey.patch_all()
import sys, threading, gevent.thread, pytest
assert threading.Lock is gevent.thread.allocate_lock
sys.exit(pytest.main(["-p", "no:cacheprovider", "-p", "pytest_timeout", "{RACES}"]))
"""


@pytest.mark.timeout(240)  # all races, in a process that imports everything again
def test_every_race_has_the_same_result_in_a_process_patched_by_gevent() -> None:
    # Only the plugin that the configuration needs: loading the others takes 5 s.
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
