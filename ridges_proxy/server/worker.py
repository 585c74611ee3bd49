"""gunicorn's gevent worker, on which connections that send nothing keep nobody else outside."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

from gevent import get_hub
from gevent.baseserver import BaseServer
from gunicorn.workers.ggevent import GeventWorker

from ridges_proxy.runtime.connection_limits import LimitedWait, request_head_limit
from ridges_proxy.runtime.file_limits import NO_FILES

if TYPE_CHECKING:
    from collections.abc import Callable

SAY_AGAIN_SECONDS = 60.0

logger = logging.getLogger(__name__)


class Worker(GeventWorker):
    """As gunicorn's own, with a limit on connections that wait for a request's head."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gunicorn's
        super().__init__(*args, **kwargs)
        self._heads = request_head_limit()

    def init_process(self) -> None:
        """Begin, in the process of its own."""
        hub: Any = get_hub()
        hub.handle_error = _but_for_files(hub.handle_error)
        super().init_process()

    def timeout_ctx(self) -> LimitedWait:  # type: ignore[override] # gunicorn's has no type
        """What gunicorn waits for a head in: by its own, until the keep-alive time is over."""
        return self._heads.wait(self.cfg.keepalive)


def _but_for_files(handle_error: Callable[..., None]) -> Callable[..., None]:
    """Say in a line of ours, not by a traceback, that a connection cannot be taken. Gevent tries it again.

    Once in a while: it tries up to a hundred times a second.
    """
    said_at = -math.inf

    def handle(context: object, kind: type, error: object, trace: object) -> None:
        nonlocal said_at
        if not (isinstance(context, BaseServer) and isinstance(error, OSError) and error.errno in NO_FILES):
            handle_error(context, kind, error, trace)
        elif time.monotonic() >= said_at + SAY_AGAIN_SECONDS:
            said_at = time.monotonic()
            logger.error("no more files may be opened: connections wait")

    return handle
