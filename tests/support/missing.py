"""What to do without a program that a test needs."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(program: str, hint: str) -> NoReturn:
    """Skip the test and say why; where everything must be there (CI=true), fail it."""
    reason = f"no {program} here ({hint})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
