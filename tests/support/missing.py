"""Skip or fail a test that needs a missing program."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(program: str, hint: str) -> NoReturn:
    """Skip the test with a reason. With CI=true, fail it: every program must be installed there."""
    reason = f"{program} is not installed ({hint})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
