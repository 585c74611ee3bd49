"""Time zones of one's own, in which a day and an hour end at a chosen second."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DAY_SECONDS = 86_400
SEARCH_PATH = "PYTHONTZPATH"
"""The environment variable with the folders in which Python looks for time zones."""


def write_zone(folder: Path, ends_at: int) -> str:
    """Write a zone in which a day ends at this time, in seconds since the epoch. Return its name."""
    east_seconds = -ends_at % DAY_SECONDS
    if east_seconds > DAY_SECONDS // 2:
        east_seconds -= DAY_SECONDS
    name = f"End{ends_at}"
    # RFC 9636: the header, no changes of the clocks, and the one offset of the zone with its abbreviation.
    header = struct.pack(">4sc15x6l", b"TZif", b"\0", 0, 0, 0, 0, 1, 4)
    folder.joinpath(name).write_bytes(header + struct.pack(">lbb4s", east_seconds, 0, 0, b"END\0"))
    return name
