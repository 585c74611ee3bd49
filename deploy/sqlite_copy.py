"""Write a consistent copy of a SQLite file to standard output. Programs may write to the file meanwhile.

Usage: python sqlite_copy.py FILE. The copy is made in memory, so it needs as much memory as the file
has bytes (a ledger of a million runs: 81 MiB). The command `sqlite3` is not needed.
"""
# ruff: noqa: INP001 - a script, not a module of a package

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path


def copy_of(path: Path) -> bytes:
    """Return the content of a copy. Raises sqlite3.Error, also if the file is damaged or does not exist."""
    with (
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as source,
        closing(sqlite3.connect(":memory:")) as target,
    ):
        source.backup(target)
        (check,) = target.execute("PRAGMA quick_check(1)").fetchone()
        if check != "ok":
            raise sqlite3.DatabaseError(f"the file is damaged: {check}")
        return target.serialize()


if __name__ == "__main__":
    try:
        sys.stdout.buffer.write(copy_of(Path(sys.argv[1])))
    except sqlite3.Error as error:
        raise SystemExit(f"{sys.argv[1]} cannot be copied: {error}") from None
