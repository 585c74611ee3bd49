"""The settings of alerts about budgets."""

from __future__ import annotations

from dataclasses import dataclass

from ridges_proxy.config import parsers
from ridges_proxy.config.field import setting


@dataclass(frozen=True, kw_only=True)
class AlertSettings:
    """Settings of alerts: when a budget causes one, and where it is sent."""

    alert_percents: tuple[int, ...] = setting(
        "ALERT_PERCENTS",
        parsers.percents,
        "80,100",
        "Shares of a budget, in percent and separated by commas. When a budget reaches one of them, there is"
        " an alert: a line in the log, a metric and, with ALERT_WEBHOOK_URL, a request. off: no alerts.",
    )
    alert_runs: bool = setting(
        "ALERT_RUNS",
        parsers.flag,
        "0",
        "1: alerts also of each run's own budget, and not only of those in BUDGETS.",
    )
    alert_webhook_url: str | None = setting(
        "ALERT_WEBHOOK_URL",
        parsers.optional(parsers.webhook_url),
        "",
        "URL to which each alert is sent as a POST. It is repeated until it is taken, or 24 hours old. If it"
        " is empty, alerts are only logged and counted. It may contain a secret.",
        secret=True,
    )
    alert_webhook_key: str | None = setting(
        "ALERT_WEBHOOK_KEY",
        parsers.optional(parsers.webhook_key),
        "",
        "Secret that signs these requests with HMAC-SHA256 (Standard Webhooks), so that the receiver knows"
        " who sent them. At least 32 characters; after whsec_, they are base64. If it is empty, there is no"
        " signature.",
        secret=True,
    )
    alert_format: str = setting(
        "ALERT_FORMAT",
        parsers.choice("json", "slack"),
        "json",
        "Form of these requests: json, or slack for an incoming webhook of Slack, which ignores signatures.",
    )
