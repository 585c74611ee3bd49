"""Run jobs that wait at a barrier and start together, in greenlets or in threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol, TypeVar

import gevent
from gevent.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


class RunTogether(Protocol):
    """Runs each job in a greenlet or thread of its own, all from one moment. Returns the results in order.

    Raises if a job raises.
    """

    def __call__(self, jobs: Sequence[Callable[[], T]], /) -> list[T]: ...


def in_greenlets(jobs: Sequence[Callable[[], T]], /) -> list[T]:
    start, all_wait = Event(), Event()
    waiting: list[None] = []

    def run(job: Callable[[], T]) -> T:
        waiting.append(None)
        if len(waiting) == len(jobs):
            all_wait.set()
        start.wait()
        return job()

    greenlets = [gevent.spawn(run, job) for job in jobs]
    all_wait.wait()
    start.set()
    gevent.joinall(greenlets, raise_error=True)
    return [greenlet.get() for greenlet in greenlets]


def in_threads(jobs: Sequence[Callable[[], T]], /) -> list[T]:
    """In a process that is patched by gevent, these are greenlets too."""
    barrier = threading.Barrier(len(jobs))
    results: dict[int, T] = {}

    def run(index: int, job: Callable[[], T]) -> None:
        barrier.wait()
        results[index] = job()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(jobs), "a job raised an error"
    return [results[index] for index in range(len(jobs))]
