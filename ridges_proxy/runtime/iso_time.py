"""Times as text, in answers, alerts and tables. Pure functions."""

from __future__ import annotations

from datetime import UTC, datetime


def iso_time(seconds: float) -> str:
    """A time in UTC, in ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def time_or_null(seconds: float | None) -> str | None:
    """The same, or null for a time that there is not."""
    return None if seconds is None else iso_time(seconds)
