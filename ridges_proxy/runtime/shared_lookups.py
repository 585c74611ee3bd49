"""Look-ups of host names that several greenlets share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gevent import monkey
from gevent.resolver.thread import Resolver

if TYPE_CHECKING:
    from gevent.event import AsyncResult

_getaddrinfo: Any = monkey.get_original("socket", "getaddrinfo")
"""The operating system's look-up: gevent's would call the resolver again."""


class SharedLookups(Resolver):
    """gevent's resolver, with one look-up for all that ask for the same name at the same time.

    Ten threads do the look-ups, and their results arrive once in a turn of the loop. Otherwise only ten new
    connections could begin in each turn, while all open connections are served in the same turn.
    """

    def __init__(self, hub: Any = None) -> None:  # noqa: ANN401 - gevent's types lack the hub's attributes
        super().__init__(hub)
        self._running: dict[tuple[Any, ...], AsyncResult[Any]] = {}

    def getaddrinfo(self, *args: Any, **kwargs: Any) -> list[Any]:  # noqa: ANN401 - the signature of gevent
        """Return the addresses, as `socket.getaddrinfo` does. Raises its errors, in each that asked."""
        question = (*args, *sorted(kwargs.items()))
        lookup = self._running.get(question)
        if lookup is None:
            lookup = self._running[question] = self.pool.spawn(_getaddrinfo, *args, **kwargs)
            lookup.rawlink(lambda _: self._running.pop(question, None))
        lookup.wait()
        if lookup.exception is not None:
            # A new error for each that asked: one that is raised twice keeps the frames of both.
            raise type(lookup.exception)(*lookup.exception.args)
        addresses: Any = lookup.value
        return list(addresses)
