"""Gunicorn's settings, derived from the service's settings."""

from __future__ import annotations

import sys
from typing import Any

from ridges_proxy.config import Settings, SettingsError
from ridges_proxy.runtime.file_limits import max_connections
from ridges_proxy.server.accepted_settings import share_settings
from ridges_proxy.server.drain import CUT_SECONDS
from ridges_proxy.server.gunicorn_logger import GunicornLogger
from ridges_proxy.server.hooks import Hooks
from ridges_proxy.server.metrics_folder import share_metrics
from ridges_proxy.server.other_servers import mark_master
from ridges_proxy.server.request_head import http_parser
from ridges_proxy.server.worker import HEARTBEAT_SECONDS
from ridges_proxy.telemetry import logs

KEEPALIVE_SECONDS = 10
"""Limit for the headers of a request and for an idle connection. A drain waits for both."""


def gunicorn_settings() -> dict[str, Any]:
    """Return gunicorn's settings and hooks by name. Exits with a message if a setting has a problem.

    Gunicorn asks for them at the start, when the service's settings are read, and again at each SIGHUP, after
    `Reload` has accepted new ones.
    """
    try:
        accepted = share_settings()
    except SettingsError as error:
        sys.exit(str(error))
    settings = accepted.settings
    logs.configure(settings.log_level, settings.log_format)
    # Here for --preload, which loads the app before the hooks run. `on_starting` shares the metrics again.
    share_metrics()
    mark_master()
    return {
        "wsgi_app": "ridges_proxy:create_app()",
        **_server_settings(settings),
        **_fixed_settings(),
        **Hooks(accepted).by_name(),
    }


def _server_settings(settings: Settings) -> dict[str, Any]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return {
        "bind": f"{host}:{settings.port}",
        "workers": settings.workers,
        "worker_connections": max_connections(settings.max_concurrent_calls),
        "graceful_timeout": settings.graceful_timeout_seconds,
        "keepalive": min(KEEPALIVE_SECONDS, settings.graceful_timeout_seconds - CUT_SECONDS - 1),
    }


def _fixed_settings() -> dict[str, Any]:
    return {
        "worker_class": "ridges_proxy.server.worker.Worker",
        "preload_app": False,  # pools and greenlets belong to the worker
        "timeout": HEARTBEAT_SECONDS,
        "max_requests": 0,  # a new worker would start only after the old one has ended
        "http_parser": http_parser(),
        "http_protocols": "h1",
        "control_socket_disable": True,
        "forwarded_allow_ips": "127.0.0.1",
        "forwarder_headers": "",  # no peer may set SCRIPT_NAME or PATH_INFO
        "accesslog": None,  # the service writes one line for each request itself
        "loglevel": "warning",
        "logger_class": GunicornLogger,
    }
