"""Check every row of a table in one test, and report every row that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Row = TypeVar("Row")


def check_rows(rows: Iterable[Row], check: Callable[[Row], object]) -> None:
    """Call `check` with each row. Fails once, with the error of each row that raised one."""
    checked, failures = 0, []
    for row in rows:
        checked += 1
        try:
            check(row)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - reported below, with its row
            failures.append(f"{row!r:.500}\n    {type(error).__name__}: {error}")
    assert checked, "the table has no rows"
    assert not failures, f"{len(failures)} of {checked} rows failed:\n" + "\n".join(failures)
