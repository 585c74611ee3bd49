"""The app factory: creates the parts of the service and wires them together."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from flask_cors.core import CorsOptionsInput, get_cors_options, parse_resources
from flask_cors.extension import make_after_request_function
from werkzeug.middleware.proxy_fix import ProxyFix

from ridges_proxy.auth.key_throttle import KeyThrottle
from ridges_proxy.auth.run_tokens import RunTokens
from ridges_proxy.billing.budgets import Budgets
from ridges_proxy.billing.learned_counts import LearnedCounts
from ridges_proxy.billing.price_list import PriceList
from ridges_proxy.calls.admission import Admission
from ridges_proxy.calls.alerts import AlertDelivery, sender_of
from ridges_proxy.calls.background import BackgroundTasks
from ridges_proxy.calls.circuit_breaker import CircuitBreakers
from ridges_proxy.calls.context_lengths import ContextLengths
from ridges_proxy.calls.gauges import Gauges
from ridges_proxy.calls.hold_wait import HoldWaits
from ridges_proxy.calls.rate_limits import RateLimits
from ridges_proxy.calls.refusal_counts import RefusalCounts
from ridges_proxy.calls.service import CallService
from ridges_proxy.config import metrics_folder
from ridges_proxy.config.parsers import ANY_ORIGIN
from ridges_proxy.ledger import (
    AlertRules,
    Sweeper,
    WriteCheck,
    measured,
    open_ledger,
    open_outbox,
    open_sessions,
    open_sliding_windows,
)
from ridges_proxy.runtime import connection_limits
from ridges_proxy.runtime.refused_bytes import LARGEST_BODIES, RefusedBytes
from ridges_proxy.runtime.shared_memory import reason_of
from ridges_proxy.runtime.shared_table import SharedTable
from ridges_proxy.runtime.turns import Turns
from ridges_proxy.runtime.webhook_signature import signing_key
from ridges_proxy.server.accepted_settings import AcceptedSettings, accepted_settings
from ridges_proxy.server.other_servers import refuse_other_servers
from ridges_proxy.server.service import EXTENSION
from ridges_proxy.telemetry import logs
from ridges_proxy.telemetry.metrics import Metrics
from ridges_proxy.telemetry.traces import open_traces
from ridges_proxy.upstream import ChutesClient, Webhook
from ridges_proxy.web import error_handlers, request_log, responses
from ridges_proxy.web.background_check import BackgroundCheck
from ridges_proxy.web.dashboard import access, dashboard
from ridges_proxy.web.dashboard.history import History
from ridges_proxy.web.dashboard.recent_calls import RecentCalls
from ridges_proxy.web.dashboard.spend_report import SpendReports
from ridges_proxy.web.flask_app import ProxyFlask
from ridges_proxy.web.openapi import openapi
from ridges_proxy.web.receipt_lines import receipt_writer
from ridges_proxy.web.request_state import request_state
from ridges_proxy.web.routes.admin import admin
from ridges_proxy.web.routes.admin_audit import admin_audit
from ridges_proxy.web.routes.admin_budgets import admin_budgets
from ridges_proxy.web.routes.admin_calls import admin_calls
from ridges_proxy.web.routes.agents import agents
from ridges_proxy.web.routes.health import health
from ridges_proxy.web.routes.metrics import metrics_page
from ridges_proxy.web.routes.openai import v1
from ridges_proxy.web.routes.platform import platform, platform_v1
from ridges_proxy.web.routes.responses import v1_responses
from ridges_proxy.web.services import Services
from ridges_proxy.web.transport import write_limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask, Response

    from ridges_proxy.config import Settings
    from ridges_proxy.ledger import Ledger

logger = logging.getLogger(__name__)

OPEN_TO_BROWSERS = (r"/agents/.*", r"/v1/.*", r"/api/.*", r"/health")
"""Routes that send CORS headers. Pages of other sites may not use the operators' routes."""

READ_BY_BROWSERS = (
    *("X-Request-ID", "X-Run-Cost-USD", "X-Run-Remaining-USD", "X-Run-Budget-State", "Retry-After"),
    *("RateLimit-Limit", "RateLimit-Policy", "RateLimit-Remaining", "RateLimit-Reset"),
)
"""Headers of answers that pages may read. A browser hides all others that the API adds."""


def create_app(settings: Settings | None = None, ledger: Ledger | None = None) -> Flask:
    """Create the app. This is the only place where the parts are wired together.

    It starts no background task: gunicorn's hooks do that. Without `settings`, a worker uses those that the
    server has accepted, and any other process reads them. Raises SettingsError, which names all invalid
    settings, and LedgerOpeningError if the ledger cannot be opened.
    """
    refuse_other_servers()
    accepted = AcceptedSettings(settings) if settings else accepted_settings()
    settings = accepted.settings
    logs.configure(settings.log_level, settings.log_format)
    app = ProxyFlask("ridges_proxy")
    app.url_map.merge_slashes = False  # a run's id may contain several slashes in a row
    app.extensions[EXTENSION] = services = _services(accepted, ledger)
    request_log.register(app)
    BackgroundCheck(services.sweeper).register(app)
    write_limit.register(app)
    error_handlers.register(app)
    responses.register(app)
    app.register_blueprint(health)
    app.register_blueprint(agents)
    app.register_blueprint(v1)
    app.register_blueprint(platform)
    app.register_blueprint(platform_v1)
    app.register_blueprint(v1_responses)
    app.register_blueprint(openapi)
    if settings.admin_api_key:
        app.register_blueprint(admin)
        app.register_blueprint(admin_audit)
        app.register_blueprint(admin_budgets)
        app.register_blueprint(admin_calls)
        app.register_blueprint(metrics_page)
        app.register_blueprint(dashboard)
        access.prepare(app, settings.admin_api_key)
    _open_to_browsers(app, settings.cors_origins)
    if settings.trusted_proxy_count:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.trusted_proxy_count, x_proto=1)  # type: ignore[method-assign] # Flask's documented way
    return app


def _open_to_browsers(app: Flask, origins: tuple[str, ...]) -> None:
    """Send CORS headers. Only listed origins may send credentials: with `*`, every page on the web could."""
    any_origin = origins == ANY_ORIGIN
    options = get_cors_options(
        app,
        CorsOptionsInput(
            origins=list(origins),
            expose_headers=list(READ_BY_BROWSERS),
            send_wildcard=any_origin,
            supports_credentials=not any_origin,
            always_send=False,
        ),
    )
    add_headers = make_after_request_function(
        [(path, options) for path, _ in parse_resources(list(OPEN_TO_BROWSERS))]
    )

    @app.after_request
    def answer_browser(response: Response) -> Response:
        """A client that sends no Origin is no browser, and gets no CORS headers."""
        return add_headers(response) if "HTTP_ORIGIN" in request_state().request.environ else response


def _services(accepted: AcceptedSettings, ledger: Ledger | None) -> Services:
    settings, folder = accepted.settings, metrics_folder()
    metrics, recent_calls = Metrics(folder), RecentCalls(folder)
    learned, learned_failure = _learned_counts(settings, folder)
    calls = _call_service(settings, measured(ledger or _open_ledger(settings), metrics), learned, metrics)
    sweeper = _sweeper(settings, calls)
    gauges, refusals = Gauges(calls, sweeper), RefusalCounts(calls.ledger)
    lengths, alerts = ContextLengths(settings), _alerts(settings, calls)
    reports = (gauges.publish, recent_calls.flush, metrics.check, logs.report_left_out)
    return Services(
        accepted=accepted,
        prices=calls.prices,
        context_lengths=lengths,
        ledger=calls.ledger,
        write_check=WriteCheck(calls.ledger),
        outbox=calls.outbox,
        sessions=open_sessions(settings),
        sweeper=sweeper,
        background=_background(calls, lengths.refresh, alerts.deliver, refusals.flush, *reports),
        admission=calls.admission,
        bodies=connection_limits.request_body_limit(settings.max_concurrent_calls, settings.max_body_bytes),
        turns=calls.turns,
        refused_bytes=RefusedBytes(LARGEST_BODIES * settings.max_body_bytes),
        lingering=connection_limits.lingering_close_limit(),
        rate_limits=calls.rate_limits,
        refusals=refusals,
        circuits=calls.circuits,
        key_throttle=KeyThrottle(),
        calls=calls,
        run_tokens=_run_tokens(settings),
        metrics=metrics,
        gauges=gauges,
        alerts=alerts,
        history=History(metrics, folder),
        recent_calls=recent_calls,
        spend_reports=SpendReports(calls.ledger),
        traces=open_traces(settings.traces_endpoint),
        learned_counts_failure=learned_failure,
        has_shared_folder=folder is not None,
    )


def _sweeper(settings: Settings, calls: CallService) -> Sweeper:
    file = settings.receipts_file
    on_forgotten = None if file is None else receipt_writer(Path(file), calls.metrics)
    return Sweeper(calls.ledger, settings.sweep_interval_seconds, calls.metrics, on_forgotten=on_forgotten)


def _open_ledger(settings: Settings) -> Ledger:
    return open_ledger(settings, AlertRules(settings.alert_percents, settings.alert_runs))


def _background(calls: CallService, *tasks: Callable[[], object]) -> BackgroundTasks:
    return BackgroundTasks(calls.ledger, calls.outbox, calls.admission, calls.upstream.close_idle, *tasks)


def _learned_counts(settings: Settings, folder: Path | None) -> tuple[LearnedCounts, str | None]:
    """Open the counts that the workers share. If that fails, return those of this process only, and why."""
    size_bytes, key = settings.learned_counts_bytes, settings.proxy_api_key.encode()
    try:
        return LearnedCounts(SharedTable(folder and folder / "learned-counts", size_bytes), key), None
    except OSError as error:
        failure = reason_of(error)
        logger.warning("learned counts are not shared by the workers", extra={"error": failure})
        return LearnedCounts(SharedTable(None, size_bytes), key), failure


def _call_service(
    settings: Settings, ledger: Ledger, learned: LearnedCounts, metrics: Metrics
) -> CallService:
    windows = open_sliding_windows(settings)
    admission = Admission(settings.max_concurrent_calls)
    return CallService(
        settings=settings,
        prices=PriceList(settings.model_prices),
        ledger=ledger,
        outbox=open_outbox(settings, ledger),
        upstream=ChutesClient(settings),
        admission=admission,
        hold_waits=HoldWaits(ledger, admission, metrics, settings),
        rate_limits=RateLimits(windows, settings.rate_limit_per_run, settings.rate_limit_per_ip),
        circuits=CircuitBreakers(settings.circuit_failures, settings.circuit_open_seconds),
        budgets=Budgets(settings.budgets),
        learned=learned,
        turns=Turns(),
        metrics=metrics,
    )


def _alerts(settings: Settings, calls: CallService) -> AlertDelivery:
    if settings.alert_webhook_url is None:
        return AlertDelivery(calls.ledger, calls.metrics, None)
    key = settings.alert_webhook_key
    webhook = Webhook(settings.alert_webhook_url, None if key is None else signing_key(key))
    return AlertDelivery(calls.ledger, calls.metrics, sender_of(webhook, settings.alert_format))


def _run_tokens(settings: Settings) -> RunTokens:
    return RunTokens(
        settings.run_token_key,
        settings.run_token_public_key,
        previous_key=settings.run_token_key_previous,
        previous_public_key=settings.run_token_public_key_previous,
    )
