"""How long a claimed alert is hidden from other processes. Pure."""

from __future__ import annotations

MAX_LEASE_SECONDS = 600.0
"""Longest pause between two deliveries of the same alert."""


def lease_seconds_of(first_lease_seconds: float, attempts: int) -> float:
    """Return the lease of a claim after `attempts` earlier ones: doubled with each, to MAX_LEASE_SECONDS."""
    return max(first_lease_seconds, min(MAX_LEASE_SECONDS, first_lease_seconds * 2.0 ** min(attempts, 32)))
