"""A step of a deployment's life: its commands, the clients that call meanwhile, and its row in the report."""

from __future__ import annotations

import re
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from bench.tables import date_and_machine, markdown_table
from tests.boot.guide import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.boot.load import Load
    from tests.boot.machine import Done
    from tests.boot.service import Service
    from tests.process.fake_chutes_control import Upstream


class Row(NamedTuple):
    """A line of the report."""

    step: str
    seconds: str
    failed_calls: str
    spend_kept: str


COLUMNS = tuple(name.replace("_", " ") for name in Row._fields)


class Step:
    """The actions of a test on the machine. `seconds` counts only what runs in `timed` and `run`."""

    def __init__(self, service: Service, upstream: Upstream, title: str) -> None:
        self.service, self.upstream, self.title = service, upstream, title
        self.seconds = 0.0
        self.loads: list[Load] = []
        self._charged = service.charged() if service.runs else {}
        self._billed = sum(upstream.bills().values())
        self.loses_spend = ""
        """Why what the step's calls spend may be lost. What was spent before must be kept in any case."""

    def run(self, script: str, *, status: int | None = 0, folder: str = "/root", **environ: str) -> Done:
        """Run commands in the machine, as `Machine.run` does, and count their time."""
        with self.timed():
            return self.service.machine.run(script, status=status, folder=folder, **environ)

    def follow(self, heading: str, *, block: int = 0, status: int | None = 0, **environ: str) -> Done:
        """Run one block of commands of deploy/README.md as it stands there."""
        return self.run(blocks(heading)[block], status=status, **environ)

    @contextmanager
    def timed(self) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds += time.monotonic() - begin

    @contextmanager
    def load(self) -> Iterator[Load]:
        """All kinds of clients call, from before the body of the context until after it."""
        load = self.service.load()
        self.loads.append(load)
        self.service.runs.update(load.runs)
        with load:
            yield load

    @property
    def failures(self) -> list[str]:
        """The errors of all calls of the step's clients that failed."""
        return [failure for load in self.loads for failure in load.failures]

    def assert_no_call_failed(self) -> None:
        assert not self.failures, f"{self._failed_calls()} calls failed:\n{self.failures_by_kind()}"

    def failures_by_kind(self) -> str:
        """Return each error of a kind of client with its count."""
        counts = Counter(re.sub(r"[0-9a-f]{32}", "…", failure) for failure in self.failures)
        return "\n".join(f"{count} x {failure}" for failure, count in counts.most_common())

    def assert_spend_is_kept(self) -> None:
        """Assert that no run's charge became less, and that new charges cover the upstream's new bills."""
        self.upstream.wait(idle=1)
        charged = self.service.charged()
        lost = {run: (old, charged[run]) for run, old in self._charged.items() if charged[run] < old}
        assert not lost, f"charges that became less, in nano-USD: {lost}"
        billed = sum(self.upstream.bills().values()) - self._billed
        new = sum(charged.values()) - sum(self._charged.values())
        assert self.loses_spend or new >= billed, f"billed {billed} nano-USD, charged {new}"

    def row(self, *, passed: bool, spend_kept: bool) -> Row:
        title = self.title if passed else f"{self.title} (failed)"
        kept = "no" if not spend_kept else self.loses_spend or "yes"
        return Row(title, f"{self.seconds:.1f}", self._failed_calls(), kept)

    @property
    def calls(self) -> int:
        """All calls of the step's clients."""
        return sum(load.calls for load in self.loads)

    def _failed_calls(self) -> str:
        return f"{len(self.failures):,} of {self.calls:,}" if self.calls else ""


def report(rows: list[Row]) -> str:
    """Return the steps as a table in Markdown."""
    return f"{date_and_machine()}\n\n{markdown_table(COLUMNS, rows)}"
