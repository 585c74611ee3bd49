"""Ids of holds: they sort by time, so an open hold says since when it is open, in every store."""

from __future__ import annotations

import os

_TIME_BITS = 48
_RANDOM_BYTES = 10
_MARK = 0x7 << 76 | 0b10 << 62
_MARKED_BITS = 0xF << 76 | 0b11 << 62
_RANDOM_BITS = (1 << 80) - 1 & ~_MARKED_BITS

_LENGTH = 32
_VERSION_AT = 12
"""Place of the version in the text."""


def new_hold_id(now: float) -> str:
    """Return a new id, made at `now` (seconds since the epoch): 32 hexadecimal digits.

    The bits are those of a UUID of version 7 (RFC 9562): 48 bits for the milliseconds, then 74 random bits.
    10,000 ids of the same millisecond have the same bits twice with a probability of 3e-15. So the ids of
    several servers stay unique, whatever their clocks show.
    """
    milliseconds = min(max(0, int(now * 1000)), (1 << _TIME_BITS) - 1)
    random = int.from_bytes(os.urandom(_RANDOM_BYTES)) & _RANDOM_BITS
    return f"{milliseconds << 80 | _MARK | random:0{_LENGTH}x}"


def started_at(hold_id: str) -> float | None:
    """Return when the id was made: seconds since the epoch, to the millisecond, by the clock of its maker.

    None for the id of a hold of version 0.2.0 or before, which has no time.
    """
    if len(hold_id) != _LENGTH or hold_id[_VERSION_AT] != "7":
        return None
    return int(hold_id[:_VERSION_AT], 16) / 1000
