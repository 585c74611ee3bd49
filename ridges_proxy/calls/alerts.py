"""Delivery of alerts: each is logged and counted once, and sent to the webhook until that takes it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

import gevent

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.calls.alert_bodies import BODIES
from ridges_proxy.errors import LedgerUnavailableError, UpstreamError, UpstreamRefusedError
from ridges_proxy.telemetry.metrics import OK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ridges_proxy.ledger import Alert
    from ridges_proxy.telemetry.metrics import Metrics
    from ridges_proxy.upstream import Webhook

LEASE_SECONDS = 15.0
"""Time after the first claim in which no other process claims the alert. Each later one is twice as long."""

POST_SECONDS = 11.0
"""Time for which a post may last, with a margin: `upstream.webhook` limits it to 10.25 s."""

MAX_AGE_SECONDS = 86_400.0
"""Age at which an alert that the webhook did not take is given up."""

logger = logging.getLogger(__name__)


class AlertStore(Protocol):
    """The alerts of the ledger, shared by all processes and machines."""

    def claim_alerts(self, limit: int, lease_seconds: float) -> Sequence[Alert]:
        """Return at most `limit` alerts that no process has claimed, the oldest first, and claim them.

        A claim ends after `lease_seconds_of(lease_seconds, attempts)`, and counts in `attempts` of the next.
        The ids go into headers: they have only letters, digits, `-` and `_`. Raises LedgerUnavailableError.
        """
        ...

    def drop_alert(self, alert_id: str) -> None:
        """Delete an alert. Does nothing if there is none. Raises LedgerUnavailableError."""
        ...


def sender_of(webhook: Webhook, alert_format: str) -> Callable[[Alert], None]:
    """Return what sends an alert to the webhook in this form, a value of ALERT_FORMAT.

    It returns within POST_SECONDS, and raises UpstreamError unless the webhook has taken the alert.
    """
    body_of = BODIES[alert_format]
    return lambda alert: webhook.post(alert.id, body_of(alert))


class AlertDelivery:
    """Delivers the alerts of one process, one at a time, in a greenlet of its own. Nothing waits for it.

    An alert is delivered at least once, always with the same id. It can be delivered twice only if the
    process or the connection ends between the webhook's answer and the deletion of the alert.
    """

    def __init__(
        self,
        store: AlertStore,
        metrics: Metrics,
        send: Callable[[Alert], None] | None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`send` is the result of `sender_of`. None: alerts are only logged and counted."""
        self._store = store
        self._metrics = metrics
        self._send = send
        self._clock = clock
        self._monotonic = monotonic
        self._greenlet: gevent.Greenlet[[], None] | None = None
        self._is_stopping = False
        self._finished_id: str | None = None
        self._last_failure: str | None = None

    def deliver(self) -> gevent.Greenlet[[], None] | None:
        """Start to deliver what is due, unless that is under way. Called once a second; returns at once."""
        if self._is_stopping or (self._greenlet is not None and not self._greenlet.dead):
            return None
        self._greenlet = gevent.spawn(self._deliver_due)
        return self._greenlet

    def stop(self) -> None:
        """Claim no further alert. A post that is under way may end."""
        self._is_stopping = True

    def _deliver_due(self) -> None:
        """Deliver one alert after another until none is due, or one was not taken."""
        try:
            while not self._is_stopping and self._deliver_next():
                pass
        except LedgerUnavailableError:
            return  # the other background tasks meet it in the same second, and log it
        except Exception:
            # An exception that ends a greenlet would be printed with its text.
            logger.exception("alerts were not delivered")

    def _deliver_next(self) -> bool:
        """Claim the next alert and deliver it. Returns whether to go on."""
        if self._finished_id is not None:
            self._drop(self._finished_id)
        claimed_at = self._monotonic()
        for alert in self._store.claim_alerts(1, LEASE_SECONDS):
            self._report(alert)
            if self._monotonic() - claimed_at > LEASE_SECONDS - POST_SECONDS:
                return False  # the claim took so long that it could end during the post
            if self._is_finished(alert):
                self._drop(alert.id)
                return True
        return False

    def _report(self, alert: Alert) -> None:
        """Log and count an alert at its first claim, or at each if that is its whole delivery."""
        if alert.attempts and self._send:
            return
        self._metrics.budget_alerts.labels(alert.budget, alert.percent).inc()
        logger.warning("budget alert", extra=_fields(alert))

    def _is_finished(self, alert: Alert) -> bool:
        """Post an alert unless it is too old. Returns whether it may be deleted."""
        if self._send is None:
            return True
        if self._clock() - alert.at >= MAX_AGE_SECONDS:
            self._metrics.alerts_expired.inc()
            logger.error("alert was given up: the webhook did not take it in a day", extra=_fields(alert))
            return True
        try:
            self._send(alert)
        except UpstreamError as error:
            self._record_failure(alert, error)
            return False
        self._record_success()
        return True

    def _drop(self, alert_id: str) -> None:
        """Delete an alert. If the ledger does not answer, it is deleted before the next claim."""
        self._finished_id = alert_id
        self._store.drop_alert(alert_id)
        self._finished_id = None

    def _record_success(self) -> None:
        self._metrics.alert_posts.labels(OK).inc()
        self._metrics.webhook_fails.set(0)
        if self._last_failure is not None:
            self._last_failure = None
            logger.info("the webhook takes alerts again")

    def _record_failure(self, alert: Alert, error: UpstreamError) -> None:
        """Count a failure. Log it unless the one before was the same."""
        reason = error.code.removeprefix("upstream_")
        self._metrics.alert_posts.labels(reason).inc()
        self._metrics.webhook_fails.set(1)
        failure = f"status {error.upstream_status}" if isinstance(error, UpstreamRefusedError) else reason
        if failure != self._last_failure:
            self._last_failure = failure
            logger.warning(
                "the webhook did not take an alert: it is sent again",
                extra={"alert": alert.id, "error": failure},
            )


def _fields(alert: Alert) -> dict[str, object]:
    return {
        "alert": alert.id,
        "budget": alert.budget,
        "scope": alert.scope,
        "period": alert.period,
        "percent": alert.percent,
        "spent_usd": usd_from_nanousd(alert.spent_nanousd),
        "amount_usd": usd_from_nanousd(alert.amount_nanousd),
    }
