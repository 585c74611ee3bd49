"""Run a test file in a new process whose interpreter is patched before anything else is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = """
import sys, pytest
sys.exit(pytest.main(["-p", "no:cacheprovider", "-p", "pytest_timeout", sys.argv[1]]))
"""


def assert_passes(path: str, *, patch: str, timeout_seconds: float) -> None:
    """Run the statements of `patch`, then the tests of the file. Fails with their output if a test fails."""
    # Only the plugin that the configuration needs: loading the others takes 5 s.
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", patch + RUN, path],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
