"""The mode of a file."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def mode_of(path: Path) -> int:
    """Return who may read, write and execute it, such as 0o640."""
    return stat.S_IMODE(path.stat().st_mode)
