"""A workload of a ledger in a separate process, which a test can kill."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING, Self

from tests.support.ledger_workload import PATIENCE_SECONDS, run_workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tests.support.ledger_workload import Journal

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.support.ledger_workload"])


class WorkloadProcess:
    """A context manager around the process. It records in the journal what the ledger acknowledged."""

    def __init__(self, journal: Journal, url: str, seed: int, max_file_bytes: int | None = None) -> None:
        self._journal = journal
        self._arguments = (url, seed)
        self._max_file_bytes = max_file_bytes
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._receives, sends = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(
            target=run_workload, args=(*self._arguments, sends, self._max_file_bytes), daemon=True
        )
        self._process.start()
        sends.close()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def wait(self, condition: Callable[[Journal], bool]) -> None:
        """Wait until the journal meets the condition."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self._journal), PATIENCE_SECONDS)

    def kill(self) -> None:
        """Send SIGKILL, and read the entries that were sent before it."""
        self._process.kill()
        self._process.join()
        self._reader.join()

    def _read(self) -> None:
        with self._receives as pipe:
            while True:
                try:
                    entry = pipe.recv()
                except (EOFError, ConnectionError):  # a killed process may leave an incomplete message
                    return
                with self._changed:
                    self._journal.record(entry)
                    self._changed.notify_all()
