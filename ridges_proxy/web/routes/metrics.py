"""`/metrics` for Prometheus. Registered only if ADMIN_API_KEY is set; a request must carry that key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, current_app
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from ridges_proxy.web.callers import require_operator
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Response

metrics_page = Blueprint("metrics", __name__)
metrics_page.before_request(require_operator)


@metrics_page.get("/metrics")
def scrape() -> Response:
    """All metrics, summed over the workers of this server."""
    services().gauges.publish()
    services().gauges.publish_runs()
    return current_app.response_class(services().metrics.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)
