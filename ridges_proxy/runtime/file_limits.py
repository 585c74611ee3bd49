"""How many connections a worker serves, and how many files and sockets it may have open for that."""

from __future__ import annotations

import errno
import logging
import resource

MOST_HEADS = 1_000
MOST_BODIES = 500
MOST_LINGERING = 500
"""Connections that wait for a request; for its body (or as many as there may be calls, if that is more); for
a client to stop sending what nobody reads. Of more of them, the oldest go."""

REFUSED_CONNECTIONS = 1_000
"""Beside them and the calls: who waits because of a bad key (500 at most), and who is just being refused."""

SPARE_FILES = 500
"""For the ledger, the log, and idle connections to the upstream."""

NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})
"""The system's words for a limit that is reached: ours, or the machine's."""

logger = logging.getLogger(__name__)


def most_bodies(max_concurrent_calls: int) -> int:
    """How many bodies may be on their way: all calls may begin in the same moment."""
    return max(MOST_BODIES, max_concurrent_calls)


def most_connections(max_concurrent_calls: int) -> int:
    """How many connections a worker serves at a time; above it, clients wait unanswered."""
    waiting = MOST_HEADS + most_bodies(max_concurrent_calls) + MOST_LINGERING
    return max_concurrent_calls + waiting + REFUSED_CONNECTIONS


def needed_files(max_concurrent_calls: int) -> int:
    """How many a worker has open at most: its connections, the calls' to the upstream, and some to spare."""
    return most_connections(max_concurrent_calls) + max_concurrent_calls + SPARE_FILES


def is_enough(limit: int, max_concurrent_calls: int) -> bool:
    """Whether a limit lets so many calls be in flight."""
    return limit == resource.RLIM_INFINITY or limit >= needed_files(max_concurrent_calls)


def raise_file_limit(max_concurrent_calls: int) -> None:
    """Allow as many as the system lets us: the usual 1,024 are used up by 500 calls."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if not is_enough(most, max_concurrent_calls):
        logger.warning(
            "the limit of open files is too low for MAX_CONCURRENT_CALLS",
            extra={"limit": most, "needed": needed_files(max_concurrent_calls)},
        )
