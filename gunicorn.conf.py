"""The server's settings: `gunicorn wsgi:app` needs no others. Values come from the service's settings."""

# The first thing of all: a module imported before it may keep unpatched sockets and locks (gunicorn#2796).
from gevent import monkey

monkey.patch_all()

import atexit  # noqa: E402 - after the patch
import gc  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

_in_memory = Path("/dev/shm")  # nosec B108 # noqa: S108 - what the workers write there never waits for a disk
_folder = _in_memory if _in_memory.is_dir() else Path(tempfile.gettempdir())


def _share_metrics() -> None:
    """Have the workers share their metrics in a folder; prometheus-client looks for it when it is imported.

    One a master: a reload reads this file again, and a master that was started by another inherits its.
    """
    prefix, name = f"ridges-metrics-{os.getpid()}-", "PROMETHEUS_MULTIPROC_DIR"
    if not Path(os.environ.get(name, "")).name.startswith(prefix):
        os.environ[name] = tempfile.mkdtemp(prefix=prefix, dir=_folder)
        atexit.register(_remove, os.environ[name], os.getpid())
        for left in _folder.glob("ridges-metrics-*-*"):  # in memory, by servers that were killed
            if not Path("/proc", left.name.split("-")[2]).exists() and Path("/proc/self").exists():
                shutil.rmtree(left, ignore_errors=True)


def _remove(folder: str, pid: int) -> None:
    """Of the process that made it alone: its children inherit what is to be done at the end."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


_share_metrics()

import gevent  # noqa: E402
from prometheus_client.multiprocess import mark_process_dead  # noqa: E402

from ridges_proxy.config import (  # noqa: E402
    Settings,
    SettingsError,
    load_settings,
    read_environment,
    unknown_names,
)
from ridges_proxy.config.ledger_url import MEMORY, shown  # noqa: E402
from ridges_proxy.ledger import LedgerOpeningError, check_books  # noqa: E402
from ridges_proxy.runtime.file_limits import most_connections, raise_file_limit  # noqa: E402
from ridges_proxy.server import upgrade  # noqa: E402
from ridges_proxy.server.gunicorn_logger import GunicornLogger  # noqa: E402
from ridges_proxy.server.reload import Reload, take_over_prices  # noqa: E402
from ridges_proxy.telemetry import logs  # noqa: E402
from ridges_proxy.web import connection  # noqa: E402
from ridges_proxy.web.parts import EXTENSION  # noqa: E402

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from gunicorn.arbiter import Arbiter
    from gunicorn.http.message import Request
    from gunicorn.http.wsgi import Response
    from gunicorn.workers.base import Worker

    from ridges_proxy.web.parts import Parts

try:
    _settings = load_settings(Settings, read_environment())
except SettingsError as error:
    sys.exit(str(error))

logs.configure(_settings.log_level, _settings.log_format)

CUT_SECONDS = 3
"""The end of the grace time that is kept for cutting off calls still in flight, and for their answers."""

DRAIN_POLL_SECONDS = 0.1

PRICES_SIGNAL = signal.SIGUSR1
"""From the master to its workers: there are new prices. A worker that is still starting does not hear it."""

_one_process = _settings.ledger_url == MEMORY  # a second one would keep books of its own
_host = f"[{_settings.host}]" if ":" in _settings.host else _settings.host
bind = f"{_host}:{_settings.port}"
workers = _settings.workers
worker_class = "ridges_proxy.server.worker.Worker"
worker_connections = most_connections(_settings.max_concurrent_calls)
preload_app = False  # pools and greenlets belong to the worker
timeout = 60  # a heartbeat: a worker whose hub has stood still for so long is killed
graceful_timeout = _settings.graceful_timeout_seconds
# Seconds for headers to come, and for an idle connection, which holds up the drain for as long.
keepalive = min(10, graceful_timeout - CUT_SECONDS - 1)
max_requests = 0  # with one worker, its successor would start only after it has gone
http_parser = "python"
http_protocols = "h1"
control_socket_disable = True
forwarded_allow_ips = "127.0.0.1"
forwarder_headers = ""  # no peer may set SCRIPT_NAME or PATH_INFO
accesslog = None  # the service writes its own line a request
loglevel = "warning"
worker_tmp_dir = str(_folder)  # for the heartbeat file

logger_class = GunicornLogger

_logger = logging.getLogger("ridges_proxy.server")


def on_starting(server: "Arbiter") -> None:
    """Refuse what the settings could not see: more workers by gunicorn's own flags."""
    _refuse_workers(server.cfg.workers)
    try:
        worries = check_books(_settings)
    except LedgerOpeningError as error:
        sys.exit(f"The ledger cannot be opened: {error}")
    for worry in worries:
        _logger.warning("the ledger's store should be mended", extra={"detail": worry})
    raise_file_limit(_settings.max_concurrent_calls)
    for warning in unknown_names():
        _logger.warning("unknown setting", extra={"detail": warning})


def when_ready(server: "Arbiter") -> None:
    """Say where the server listens, and what its books survive."""
    _guard_reload(server)
    upgrade.guard(server, allowed=not _one_process)
    addresses = ", ".join(str(listener) for listener in server.LISTENERS)
    _logger.info("listening", extra={"address": addresses, "ledger": shown(_settings.ledger_url)})
    _warn_of_forgetting()


def on_exit(_server: "Arbiter") -> None:
    """Say that it is over."""
    _logger.info("stopped")


def nworkers_changed(server: "Arbiter", new_value: int, old_value: int | None) -> None:
    """Undo a SIGTTIN that would start a second worker with books of its own."""
    if old_value is not None and new_value > 1 and _one_process:
        _logger.error("memory:// allows one worker only: no other is started")
        server.num_workers = 1


def post_worker_init(worker: "Worker") -> None:
    """Start what runs beside the calls. Only here: imports and the command line must start nothing."""
    # A terminal's Ctrl-C reaches the workers too: twice told to quit, they would die in a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parts: Parts = worker.wsgi.extensions[EXTENSION]
    parts.sweeper.start()
    parts.upkeep.start()
    gc.collect()
    gc.freeze()  # what has been loaded stays: no collection need look at it again
    gevent.spawn(_drain, worker, parts)
    _follow_prices(parts)
    _logger.info("worker ready")
    upgrade.take_over(worker, os.environ.get("GUNICORN_PID", ""))


def worker_exit(_server: "Arbiter", worker: "Worker") -> None:
    """Send the traces that are left. A worker that failed to start has no app."""
    parts: Parts | None = worker.wsgi.extensions[EXTENSION] if hasattr(worker, "wsgi") else None
    if parts and parts.traces:
        parts.traces.close()


def child_exit(_server: "Arbiter", worker: "Worker") -> None:
    """Forget the gauges of a worker that is no more; what it counted stays counted."""
    mark_process_dead(worker.pid)


def post_request(
    worker: "Worker", http_request: "Request", environ: "WSGIEnvironment", _response: "Response"
) -> None:
    """End a connection that the request has not left in order."""
    if not connection.finish(environ, worker.lingering):
        http_request.force_close()


def _guard_reload(server: "Arbiter") -> None:
    """Refuse a SIGHUP whose settings have problems: gunicorn would end the running server over them."""
    reload = server.handle_hup

    def restart() -> None:
        _logger.info("reloading")
        _warn_of_forgetting()
        reload()

    server.handle_hup = Reload(_settings, restart, lambda: server.kill_workers(PRICES_SIGNAL))
    # The logs go to standard error, so gunicorn's own use of the signal has nothing to tell the workers.
    server.handle_usr1 = server.log.reopen_files


def _follow_prices(parts: "Parts") -> None:
    """Take over new prices whenever the master says that there are some."""
    gevent.signal_handler(PRICES_SIGNAL, take_over_prices, parts.settings, parts.prices)
    take_over_prices(parts.settings, parts.prices)  # what the master said while this worker was starting


def _warn_of_forgetting() -> None:
    if _one_process:
        _logger.warning("the ledger is in memory: a restart or a reload forgets what runs have spent")


def _refuse_workers(number: int) -> None:
    if number > 1 and _one_process:
        why = "each would keep books of its own, and a run could spend its cap once in each"
        sys.exit(f"memory:// allows only 1 worker: {why}. {number} were asked for.")


def _drain(worker: "Worker", parts: "Parts") -> None:
    """Once the worker is to stop: take no new calls, and cut off what is left before gunicorn kills it.

    Gunicorn itself never ends a call in flight: at the end of the grace time it kills the process.
    """
    while worker.alive:
        gevent.sleep(DRAIN_POLL_SECONDS)
    cut_at = time.monotonic() + graceful_timeout - CUT_SECONDS
    while _listens(worker) and time.monotonic() < cut_at:
        gevent.sleep(DRAIN_POLL_SECONDS)
    parts.admission.drain()
    parts.sweeper.stop()
    _logger.info("draining", extra={"in_flight": parts.admission.in_flight})
    while parts.admission.in_flight and time.monotonic() < cut_at:
        gevent.sleep(DRAIN_POLL_SECONDS)
    if parts.admission.in_flight:
        _logger.warning("cutting off calls in flight", extra={"in_flight": parts.admission.in_flight})
        parts.admission.end_all()


def _listens(worker: "Worker") -> bool:
    """Whether the worker still takes connections: for up to a second, and whoever it took must be served."""
    return any(listener.fileno() >= 0 for listener in worker.sockets)
