"""The body of an alert for a webhook, in each form of ALERT_FORMAT. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

import orjson

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.runtime.iso_time import iso_time, time_or_null

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ridges_proxy.ledger import Alert

EVENT = "budget.threshold_reached"


def json_body(alert: Alert) -> bytes:
    """Return the form of docs/operating/alerts.md. A retry of the same alert has the same bytes."""
    data = {
        "id": alert.id,
        "budget": alert.budget,
        "scope": alert.scope,
        "window": alert.period.partition(" ")[0],
        "period": alert.period,
        "percent": alert.percent,
        "amount_usd": usd_from_nanousd(alert.amount_nanousd),
        "spent_usd": usd_from_nanousd(alert.spent_nanousd),
        "resets_at": time_or_null(alert.resets_at),
        "text": text_of(alert),
    }
    return orjson.dumps({"type": EVENT, "timestamp": iso_time(alert.at), "data": data})


def slack_body(alert: Alert) -> bytes:
    """Return a message for an incoming webhook of Slack. No name in it can become a link or a mention."""
    return orjson.dumps({"text": escape(text_of(alert), quote=False)})


def text_of(alert: Alert) -> str:
    """Return the alert as a sentence. It says why a budget of which something is left counts as used up."""
    amount, spent = _amount(alert.amount_nanousd), _amount(alert.spent_nanousd)
    until = ""
    if alert.resets_at is not None:
        until = f", until {datetime.fromtimestamp(alert.resets_at, UTC):%Y-%m-%d %H:%M} UTC"
    is_refusal = alert.spent_nanousd * 100 < alert.amount_nanousd * alert.percent
    refused = ", and a call was refused" if is_refusal else ""
    return (
        f"Budget {alert.budget} has reached {alert.percent} %: {spent} of {amount} USD{refused}"
        f" ({alert.scope}, {alert.period}){until}."
    )


BODIES: Mapping[str, Callable[[Alert], bytes]] = {"json": json_body, "slack": slack_body}
"""The functions by the values of ALERT_FORMAT."""


def _amount(amount_nanousd: int) -> str:
    """Return an amount in USD, exactly and without zeros at its end."""
    return f"{usd_from_nanousd(amount_nanousd):.9f}".rstrip("0").rstrip(".")
