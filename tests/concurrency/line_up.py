"""Contenders that all wait at one line and start together: greenlets, and threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol, TypeVar

import gevent
from gevent.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class LineUp(Protocol):
    """Runs all the work at once, each piece in a greenlet or thread of its own; raises what any raises."""

    def __call__(self, work: list[Callable[[], T]], /) -> list[T]: ...


def greenlets(work: list[Callable[[], T]], /) -> list[T]:
    go = Event()
    waiting: list[None] = []
    all_wait = Event()

    def contend(job: Callable[[], T]) -> T:
        waiting.append(None)
        if len(waiting) == len(work):
            all_wait.set()
        go.wait()
        return job()

    contenders = [gevent.spawn(contend, job) for job in work]
    all_wait.wait()
    go.set()
    gevent.joinall(contenders, raise_error=True)
    return [contender.get() for contender in contenders]


def threads(work: list[Callable[[], T]], /) -> list[T]:
    """Real ones, unless the process is patched by gevent."""
    line = threading.Barrier(len(work))
    results: dict[int, T] = {}

    def contend(index: int, job: Callable[[], T]) -> None:
        line.wait()
        results[index] = job()

    contenders = [threading.Thread(target=contend, args=each) for each in enumerate(work)]
    for contender in contenders:
        contender.start()
    for contender in contenders:
        contender.join()
    assert len(results) == len(work), "a contender raised"
    return [results[index] for index in range(len(work))]
