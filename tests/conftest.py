"""Fixtures and hooks of all tests."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from gevent import get_hub
from hypothesis import Phase, settings

from tests.support.app import ADMIN_KEY, CHUTES_KEY, PROXY_KEY
from tests.support.loggers import as_before

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# The clock of most servers shows UTC. In this zone a test notices a time that is shown or read as local time.
os.environ["TZ"] = "Pacific/Chatham"
time.tzset()

# The same examples in each run make failures reproducible. `make deep` tries new examples.
settings.register_profile("ci", max_examples=100, derandomize=True, database=None, deadline=None)
settings.register_profile("deep", max_examples=5_000, database=None, deadline=None)
# A mutant needs one failing example, not the smallest one.
settings.register_profile(
    "mutants", settings.get_profile("ci"), max_examples=25, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("ci")


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Restore the loggers: every app sends them to the standard error of its test."""
    with as_before():
        yield


@pytest.fixture(autouse=True)
def loop_time() -> None:
    """Tell gevent's loop the time. It stood still while other tests ran, and time limits count from it."""
    get_hub().loop.update_now()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that passed but wrote a secret key: in log lines, errors or tracebacks.

    The output of processes is checked by `Proxy` and by the tests of the command line.
    """
    report = yield
    written = "".join(text for title, text in report.sections if title.startswith("Captured std"))
    keys = [key for key in (PROXY_KEY, ADMIN_KEY, CHUTES_KEY) if key in written]
    if keys and report.passed:
        report.outcome = "failed"
        report.longrepr = f"keys in the output: {keys}"
    return report
