"""How many files and sockets the process may have open."""

from __future__ import annotations

import logging
import resource

FILES_PER_CALL = 2
"""The caller's connection and the upstream's."""

SPARE_FILES = 3000
"""For connections that wait (gunicorn.conf.py lets there be so many), the ledger, the log."""

logger = logging.getLogger(__name__)


def needed_files(max_concurrent_calls: int) -> int:
    """How many a worker with so many calls in flight has open, with some to spare."""
    return FILES_PER_CALL * max_concurrent_calls + SPARE_FILES


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
