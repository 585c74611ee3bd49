"""What a Redis ledger's answers stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from ridges_proxy.ledger.models import Hold, Kind, Receipt, RunUsage

if TYPE_CHECKING:
    from collections.abc import Sequence


def books_of(reply: Sequence[bytes] | None) -> RunUsage | None:
    """A run's books, None where there are none."""
    return None if reply is None else usage_of(reply)


def usage_of(row: Sequence[bytes]) -> RunUsage:
    """A run's books."""
    run_id, cap, inference, embedding, held, calls, in_flight, idle_seconds, closed = row
    return RunUsage(
        run_id.decode(),
        int(cap),
        int(inference),
        int(embedding),
        int(held),
        int(calls),
        int(in_flight),
        float(idle_seconds),
        closed == b"1",
    )


def hold_of(row: Sequence[bytes]) -> Hold:
    """A hold."""
    hold_id, run_id, kind, amount_nanousd, expires_at = row
    return Hold(
        hold_id.decode(), run_id.decode(), Kind(kind.decode()), int(amount_nanousd), float(expires_at)
    )


def receipt_of(member: bytes) -> Receipt:
    """A member of a bucket's receipts."""
    books, forgotten_at = orjson.loads(member)
    return Receipt(usage_of([word.encode() for word in books]), float(forgotten_at))
