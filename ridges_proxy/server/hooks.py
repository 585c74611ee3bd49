"""Gunicorn's hooks: start, stop, reload and restart of the service."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gevent

from ridges_proxy.config import doubts, metrics_folder, unknown_names
from ridges_proxy.config.ledger_url import MEMORY, redacted
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import LedgerOpeningError, check_ledger_store
from ridges_proxy.runtime.file_limits import raise_file_limit
from ridges_proxy.server.drain import drain_at_stop
from ridges_proxy.server.hand_over import install_sigusr2_handler
from ridges_proxy.server.metrics_folder import hold_folder, share_metrics
from ridges_proxy.server.readiness import notify_ready, take_notify_socket
from ridges_proxy.server.reload import Reload, reload_in_place, warn_of_prices_per_token
from ridges_proxy.server.service import EXTENSION
from ridges_proxy.server.worker_count import WorkerCount
from ridges_proxy.server.worker_start import install_worker_start
from ridges_proxy.telemetry.shared_values import fold

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import WSGIEnvironment
    from gunicorn.arbiter import Arbiter
    from gunicorn.http.message import Request
    from gunicorn.http.wsgi import Response
    from gunicorn.workers.base import Worker

    from ridges_proxy.config import Settings
    from ridges_proxy.server.accepted_settings import AcceptedSettings
    from ridges_proxy.server.service import WorkerServices

IN_PLACE_SIGNAL = signal.SIGUSR1
"""Sent by the master to its workers when only prices and budgets have changed. A worker that is starting
misses it."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Gunicorn handles these in the master. Without a handler, each would kill the process."""

NEW_OBJECTS = 5_000
"""Objects made and not yet freed after which Python looks for those that only refer to each other. With the
default of Python 3.11, 700, it looked again and again at the objects of calls in flight: 6 % of a call with
32 connections."""

logger = logging.getLogger("ridges_proxy.server")


class Hooks:
    """The hooks of one server, by the names that gunicorn gives them."""

    def __init__(self, accepted: AcceptedSettings) -> None:
        self._accepted = accepted

    @property
    def _settings(self) -> Settings:
        return self._accepted.settings

    @property
    def _one_process(self) -> bool:
        """Whether a second process would have its own ledger: a run could spend its budget once in each."""
        return self._settings.ledger_url == MEMORY

    def by_name(self) -> dict[str, Callable[..., None]]:
        """Return the hooks as gunicorn's settings expect them."""
        return {
            "on_starting": self.on_starting,
            "when_ready": self.when_ready,
            "on_exit": self.on_exit,
            "nworkers_changed": self.nworkers_changed,
            "pre_fork": self.pre_fork,
            "post_worker_init": self.post_worker_init,
            "worker_exit": self.worker_exit,
            "child_exit": self.child_exit,
            "post_request": self.post_request,
        }

    def on_starting(self, server: Arbiter) -> None:
        """Prepare the environment of the workers. Check the options, the ledger and the system's limits."""
        # The configuration was read in another process if gunicorn became a daemon (-D) since then.
        share_metrics()
        take_notify_socket()
        self._refuse_workers(server.cfg.workers)
        try:
            warnings = check_ledger_store(self._settings)
        except LedgerOpeningError as error:
            sys.exit(f"The ledger cannot be opened: {error}")
        for warning in warnings:
            logger.warning("the ledger's store has a problem", extra={"detail": warning})
        raise_file_limit(self._settings.max_concurrent_calls)
        for warning in unknown_names():
            logger.warning("unknown setting", extra={"detail": warning})
        for warning in doubts(self._settings):
            logger.warning("doubtful settings", extra={"detail": warning})
        warn_of_prices_per_token(self._settings.model_prices)

    def when_ready(self, server: Arbiter) -> None:
        """Log the address and the ledger; take over gunicorn's handling of signals and of its workers."""
        install_worker_start(server)
        self._install_sighup_handler(server, WorkerCount(server))
        install_sigusr2_handler(server, lambda: self._one_process)
        addresses = ", ".join(str(listener) for listener in server.LISTENERS)
        ledger = redacted(self._settings.ledger_url)
        logger.info("listening", extra={"address": addresses, "ledger": ledger})
        self._warn_of_memory_ledger()

    def on_exit(self, _server: Arbiter) -> None:
        """Log the end of the server. A signal that comes later does not change the exit status."""
        # While it ends, the interpreter removes its handlers. A signal would then kill the process.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        logger.info("stopped")

    def nworkers_changed(self, server: Arbiter, new_value: int, old_value: int | None) -> None:
        """Undo a SIGTTIN that would start a second worker with its own ledger."""
        if old_value is not None and new_value > 1 and self._one_process:
            logger.error("memory:// allows only 1 worker: no other worker is started")
            server.num_workers = 1

    def pre_fork(self, server: Arbiter, _worker: Worker) -> None:
        """Keep other servers from removing the folder that the workers share."""
        hold_folder(server)

    def post_worker_init(self, worker: Worker) -> None:
        """Start the background tasks. An import and the command line must not start them."""
        # A terminal sends Ctrl-C to the workers, too. They ignore it: the master stops them.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        services = _services_of(worker)
        services.sweeper.start()
        services.background.start()
        services.history.start()
        gc.collect()
        gc.freeze()  # modules and settings live as long as the process, so collections need not scan them
        gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
        gevent.spawn(drain_at_stop, worker, services)
        _install_reload_handler(services)
        services.accepted.enter(worker.age)
        logger.info("worker ready")
        gevent.spawn(notify_ready, worker)  # as soon as gunicorn accepts connections and waits

    def worker_exit(self, _server: Arbiter, worker: Worker) -> None:
        """Write the last counts, and send the remaining traces. A worker that failed to start has no app."""
        if not hasattr(worker, "wsgi"):
            return
        services = _services_of(worker)
        with suppress(LedgerUnavailableError):
            services.refusals.flush()
        if services.traces:
            services.traces.close()

    def child_exit(self, _server: Arbiter, worker: Worker) -> None:
        """Remove the files of a worker that has ended. Its counters stay in the sums."""
        self._accepted.forget(worker.age)
        if folder := metrics_folder():
            fold(folder, worker.pid)

    def post_request(
        self, worker: Worker, http_request: Request, environ: WSGIEnvironment, response: Response | None
    ) -> None:
        """Send what is left of the response. Close a connection on which no further request can be read."""
        is_sent = response is None or _is_sent(response)
        if not (is_sent and _services_of(worker).finish_connection(environ)):
            http_request.force_close()

    def _install_sighup_handler(self, server: Arbiter, count: WorkerCount) -> None:
        """Refuse a SIGHUP if the new settings have problems: gunicorn would end the running server."""
        reload = server.handle_hup

        def restart() -> None:
            logger.info("reloading")
            self._warn_of_memory_ledger()
            count.replace_workers(reload)

        handle_hup = Reload(self._accepted, restart, lambda: server.kill_workers(IN_PLACE_SIGNAL))
        server.handle_hup = handle_hup  # type: ignore[method-assign] # gunicorn has no hook for it
        # In the workers this signal means new prices or budgets, so only the master reopens its log files.
        server.handle_usr1 = server.log.reopen_files  # type: ignore[method-assign,union-attr] # as above

    def _warn_of_memory_ledger(self) -> None:
        if self._one_process:
            logger.warning("the ledger is in memory: a restart or a reload loses what runs have spent")

    def _refuse_workers(self, number: int) -> None:
        if number > 1 and self._one_process:
            why = "each worker would have its own ledger, and a run could spend its budget once in each"
            sys.exit(f"memory:// allows only 1 worker, and {number} were requested: {why}.")


def _services_of(worker: Worker) -> WorkerServices:
    app: Any = worker.wsgi
    services: WorkerServices = app.extensions[EXTENSION]
    return services


def _install_reload_handler(services: WorkerServices) -> None:
    """Load what has changed at each signal of the master, and once for a signal missed during the start."""
    parts = services.accepted, services.prices, services.budgets
    gevent.signal_handler(IN_PLACE_SIGNAL, reload_in_place, *parts)
    reload_in_place(*parts)


def _is_sent(response: Response) -> bool:
    """Send the head of a response without a body. Returns whether the client took it in time."""
    with suppress(OSError):
        response.sock.flush()  # type: ignore[attr-defined] # it is a ResponseSocket
        return True
    return False
