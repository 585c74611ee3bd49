"""The service's objects, which `create_app` builds and requests use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import current_app

from ridges_proxy.auth.api_keys import ApiKeys
from ridges_proxy.server.service import EXTENSION
from ridges_proxy.web.transport.request_reader import finish

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask import Flask

    from ridges_proxy.auth.key_throttle import KeyThrottle
    from ridges_proxy.auth.run_tokens import RunTokens
    from ridges_proxy.billing.budgets import Budgets
    from ridges_proxy.billing.price_list import PriceList
    from ridges_proxy.calls.admission import Admission
    from ridges_proxy.calls.alerts import AlertDelivery
    from ridges_proxy.calls.background import BackgroundTasks
    from ridges_proxy.calls.circuit_breaker import CircuitBreakers
    from ridges_proxy.calls.context_lengths import ContextLengths
    from ridges_proxy.calls.gauges import Gauges
    from ridges_proxy.calls.rate_limits import RateLimits
    from ridges_proxy.calls.refusal_counts import RefusalCounts
    from ridges_proxy.calls.service import CallService
    from ridges_proxy.config import Settings
    from ridges_proxy.ledger import Ledger, Outbox, Sessions, Sweeper, WriteCheck
    from ridges_proxy.runtime.connection_limits import ConnectionLimit
    from ridges_proxy.runtime.refused_bytes import RefusedBytes
    from ridges_proxy.runtime.turns import Turns
    from ridges_proxy.server.accepted_settings import AcceptedSettings
    from ridges_proxy.telemetry.metrics import Metrics
    from ridges_proxy.telemetry.traces import Traces
    from ridges_proxy.web.dashboard.history import History
    from ridges_proxy.web.dashboard.recent_calls import RecentCalls
    from ridges_proxy.web.dashboard.spend_report import SpendReports

NO_FOLDER = "No folder can be made for shared files"


@dataclass(frozen=True, slots=True)
class Services:
    """The objects of one process, one of each kind."""

    accepted: AcceptedSettings
    """What the server has done with its settings."""
    settings: Settings = field(init=False)
    """The settings that this process has started with."""
    caller_keys: ApiKeys = field(init=False)
    """The keys of all callers. Run tokens are verified by `run_tokens`."""
    operator_keys: ApiKeys = field(init=False)
    prices: PriceList
    """The prices in force. Those in `settings` are from the start of the process."""
    context_lengths: ContextLengths
    ledger: Ledger
    write_check: WriteCheck
    outbox: Outbox
    sessions: Sessions
    """Of operators who are signed in to the dashboard."""
    sweeper: Sweeper
    background: BackgroundTasks
    admission: Admission
    bodies: ConnectionLimit
    """Requests whose body is being read."""
    turns: Turns
    """Turns for parsing and checking bodies that need much time."""
    refused_bytes: RefusedBytes
    lingering: ConnectionLimit
    """Connections whose client still sends a body that nothing will use, after its response was sent."""
    rate_limits: RateLimits
    refusals: RefusalCounts
    circuits: CircuitBreakers
    key_throttle: KeyThrottle
    calls: CallService
    run_tokens: RunTokens
    metrics: Metrics
    gauges: Gauges
    alerts: AlertDelivery
    history: History
    recent_calls: RecentCalls
    spend_reports: SpendReports
    traces: Traces | None
    """None: no endpoint is configured."""
    learned_counts_failure: str | None = None
    """Why the workers do not share their learned counts."""
    has_shared_folder: bool = False
    """Whether the server has made a folder for what its workers share."""

    def __post_init__(self) -> None:
        settings = self.accepted.settings
        object.__setattr__(self, "settings", settings)
        object.__setattr__(
            self, "caller_keys", ApiKeys(settings.proxy_api_key, settings.proxy_api_key_previous)
        )
        object.__setattr__(
            self, "operator_keys", ApiKeys(settings.admin_api_key, settings.admin_api_key_previous)
        )

    @property
    def budgets(self) -> Budgets:
        """The budgets in force. Those in `settings` are from the start of the process."""
        return self.calls.budgets

    def degraded(self) -> dict[str, str]:
        """Return what works only in part, each with the reason. Calls and their costs are not affected."""
        failures = {
            "metrics": self.metrics.failure,
            "learned_counts": self.learned_counts_failure,
            "history": self.history.failure,
            "recent_calls": self.recent_calls.failure,
        }
        if self.settings.workers > 1 and not self.has_shared_folder:
            return dict.fromkeys(failures, NO_FOLDER)
        return {part: failure for part, failure in failures.items() if failure}

    def finish_connection(self, environ: WSGIEnvironment) -> bool:
        """Prepare the connection for its next request. Returns False if it must be closed instead."""
        return finish(environ, self.lingering)


def services() -> Services:
    """The objects of the current app."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined] # noqa: SLF001 - see request_state.py
    found: Services = app.extensions[EXTENSION]
    return found
