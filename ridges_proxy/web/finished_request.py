"""The result of a request that is over, for the log, the metrics and the traces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """The result of a request."""

    request_id: str
    method: str
    route: str | None
    status: int
    code: str | None
    """The error's code, also where a stream failed after its status was sent. None: no error."""
    model_label: str
    """The model as a metric's label (see `call_metrics.model_label_of`)."""
    seconds: float
    """From the start of the request to the end of its response."""
