"""Maximum connections of a worker, and the open files that they need."""

from __future__ import annotations

import errno
import logging
import resource

MAX_REQUEST_HEADS = 1_000
"""Connections that wait for a request. Above this and the next two limits, the oldest one is closed."""

MAX_REQUEST_BODIES = 500
"""Connections that wait for the rest of a body; MAX_CONCURRENT_CALLS, if that is more."""

MAX_LINGERING = 500
"""Connections that have their answer, but whose client still sends a body that is not read."""

REFUSED_CONNECTIONS = 1_000
"""Other connections, beside those and the calls: delayed answers to invalid API keys (at most 500), and
requests that are being refused."""

SPARE_FILES = 500
"""For the ledger, the log, and idle connections to the upstream."""

NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})
"""Error numbers for too many open files: the limit of the process, or of the machine."""

logger = logging.getLogger(__name__)


def max_request_bodies(max_concurrent_calls: int) -> int:
    """Return the maximum of bodies being received: all calls may begin in the same moment."""
    return max(MAX_REQUEST_BODIES, max_concurrent_calls)


def max_connections(max_concurrent_calls: int) -> int:
    """Return the maximum of connections that a worker accepts. Further clients wait unanswered."""
    waiting = MAX_REQUEST_HEADS + max_request_bodies(max_concurrent_calls) + MAX_LINGERING
    return max_concurrent_calls + waiting + REFUSED_CONNECTIONS


def needed_files(max_concurrent_calls: int) -> int:
    """Return the maximum open files of a worker: clients, one upstream connection per call, and spares."""
    return max_connections(max_concurrent_calls) + max_concurrent_calls + SPARE_FILES


def is_enough(limit: int, max_concurrent_calls: int) -> bool:
    """Return whether a limit of open files is sufficient for the maximum of in-flight calls."""
    return limit == resource.RLIM_INFINITY or limit >= needed_files(max_concurrent_calls)


def raise_file_limit(max_concurrent_calls: int) -> None:
    """Raise the soft limit of open files to the hard limit: 500 calls use up the usual 1,024."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    if not is_enough(hard_limit, max_concurrent_calls):
        logger.warning(
            "the limit of open files is too low for MAX_CONCURRENT_CALLS",
            extra={"limit": hard_limit, "needed": needed_files(max_concurrent_calls)},
        )
