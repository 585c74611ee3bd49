"""Gunicorn's gevent worker, with a limit on connections that send no complete request head."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from gevent import get_hub
from gevent.baseserver import BaseServer
from gunicorn.http.parser import RequestParser
from gunicorn.workers import base
from gunicorn.workers.ggevent import GeventWorker
from gunicorn.workers.workertmp import WorkerTmp

from ridges_proxy.runtime.connection_limits import LimitedWait, request_head_limit
from ridges_proxy.runtime.cooperative import let_queued_run, let_ready_run
from ridges_proxy.runtime.file_limits import NO_FILES
from ridges_proxy.runtime.shared_lookups import SharedLookups
from ridges_proxy.server.request_head import RequestHead
from ridges_proxy.server.response_socket import ResponseSocket
from ridges_proxy.server.worker_start import accept_stops

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from gunicorn.config import Config
    from gunicorn.http.message import Request

HEARTBEAT_SECONDS = 60
"""The master kills a worker whose hub has been blocked for this long."""

ORPHAN_SECONDS = 75
"""The kernel kills a worker whose hub has been blocked for this long: it may have no master any more."""

LOG_INTERVAL_SECONDS = 60.0
"""Minimum time between two log lines about the file limit. Gevent retries up to a hundred times a second."""

logger = logging.getLogger(__name__)


class Heartbeat(WorkerTmp):
    """The file whose time tells the master that a worker is alive.

    It is in no folder: if a folder is full or read-only, the master ends at the next start of a worker.
    """

    def __init__(self, cfg: Config) -> None:
        descriptor = os.memfd_create("heartbeat")
        # The worker may run as another user. The call itself is denied by the unit's filter of system calls.
        if (cfg.uid, cfg.gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, cfg.uid, cfg.gid)
        self._tmp = os.fdopen(descriptor, "w+b", 0)


class Worker(GeventWorker):
    """Gunicorn's gevent worker. Its connections take turns.

    Idle connections cannot keep out other clients: the oldest are closed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the signature of gunicorn
        base.WorkerTmp = Heartbeat  # type: ignore[attr-defined] # gunicorn has no setting for it
        RequestParser.mesg_class = RequestHead  # nor for this
        super().__init__(*args, **kwargs)
        self._heads = request_head_limit()

    def init_process(self) -> None:
        """Start the worker, after the fork."""
        hub: Any = get_hub()
        hub.handle_error = _log_file_limit(hub.handle_error)
        hub.resolver = SharedLookups(hub)
        super().init_process()

    def init_signals(self) -> None:
        """Set the worker's handlers. Signals that arrived since the fork are handled now."""
        super().init_signals()
        accept_stops()

    def notify(self) -> None:
        """Tell the master that the worker is alive. Without its master, the worker drains.

        Gunicorn's own worker would end at once, with its calls in flight.
        """
        self.tmp.notify()
        if not self.alive:
            return  # the drain has set the last alarm
        signal.alarm(ORPHAN_SECONDS)
        if self.ppid != os.getppid():
            logger.warning("the server's main process has ended: this worker finishes its calls")
            self.alive = False

    def timeout_ctx(self) -> LimitedWait:  # type: ignore[override] # gunicorn's has no type
        """Return the timeout for a request's head: the keep-alive time, or less if too many wait."""
        return self._heads.wait(self.cfg.keepalive)

    def handle_request(self, listener_name: Any, req: Request, sock: socket, addr: Any) -> bool:  # noqa: ANN401
        """Answer one request.

        Before it, the other requests whose heads were read in the same moment begin (`let_queued_run`). After
        it, all other connections have their turn (`let_ready_run`): otherwise a client whose next request has
        already arrived would be served before clients who wait.
        """
        let_queued_run()
        client: Any = ResponseSocket(sock)  # gunicorn's types know no other socket than Python's
        result = super().handle_request(listener_name, req, client, addr)
        let_ready_run()
        return result


def _log_file_limit(handle_error: Callable[..., None]) -> Callable[..., None]:
    """Log one line, and no traceback, if the file limit prevents a new connection. Gevent retries."""
    logged_at = -math.inf

    def handle(context: object, kind: type, error: object, trace: object) -> None:
        nonlocal logged_at
        if not (isinstance(context, BaseServer) and isinstance(error, OSError) and error.errno in NO_FILES):
            handle_error(context, kind, error, trace)
        elif time.monotonic() >= logged_at + LOG_INTERVAL_SECONDS:
            logged_at = time.monotonic()
            logger.error("file limit reached: new connections wait")

    return handle
