"""How a request ended: for the log, the metrics and the traces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended."""

    request_id: str
    method: str
    route: str | None
    status: int
    code: str | None
    """Of the error, a stream's own included; None where all went well."""
    model: str
    """As a label: none that has no price."""
    seconds: float
    """From its first line to the end of its answer."""
