"""Conversion of the replies of a Redis ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from ridges_proxy.ledger.models import Hold, Kind, Receipt, RunUsage

if TYPE_CHECKING:
    from collections.abc import Sequence


def optional_usage_of(reply: Sequence[bytes] | None) -> RunUsage | None:
    """Convert the usage of a run; None if the run is not known."""
    return None if reply is None else usage_of(reply)


def usage_of(row: Sequence[bytes]) -> RunUsage:
    """Convert the usage of a run."""
    run_id, budget, inference, embedding, held, calls, in_flight, idle_seconds, *flags = row
    closed, finished, own_budget = (flag == b"1" for flag in flags)
    return RunUsage(
        run_id.decode(),
        int(budget),
        int(inference),
        int(embedding),
        int(held),
        int(calls),
        int(in_flight),
        float(idle_seconds),
        closed,
        finished,
        own_budget,
    )


def hold_of(row: Sequence[bytes]) -> Hold:
    """Convert a hold."""
    hold_id, run_id, kind, amount_nanousd, expires_at = row
    return Hold(
        hold_id.decode(), run_id.decode(), Kind(kind.decode()), int(amount_nanousd), float(expires_at)
    )


def run_of_receipt(member: bytes) -> str:
    """Return the run id of a member of a bucket's receipts."""
    run_id: str = orjson.loads(member)[0][0]
    return run_id


def receipt_of(member: bytes, finished: bytes | None) -> Receipt:
    """Convert a member of a bucket's receipts. `finished` is its run's value in the hash of that name."""
    row, forgotten_at = orjson.loads(member)
    own_budget, _, receipt = (finished or b"").partition(b"|")
    flags = (b"1", own_budget) if receipt == member else (b"0", b"0")
    return Receipt(usage_of([*(value.encode() for value in row), *flags]), float(forgotten_at))
