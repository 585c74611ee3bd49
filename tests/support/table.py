"""Check every row of a table in one test, and report every row that fails."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Test = Callable[..., None]


def check_rows(rows: Iterable[object], check: Callable[..., object]) -> None:
    """Call `check` with each row. Fails once, with the error of each row that raised one."""
    checked, failures = 0, []
    for row in rows:
        checked += 1
        try:
            check(row)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - reported below, with its row
            failures.append("\n    ".join([f"{row!r:.500}", *_texts(error)]))
    assert checked, "the table has no rows"
    assert not failures, f"{len(failures)} of {checked} rows failed:\n" + "\n".join(failures)


def _texts(error: BaseException) -> Iterator[str]:
    """Yield the text of an error, and those of the errors that it groups: Hypothesis groups what differs."""
    yield f"{type(error).__name__}: {error}"
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _texts(part)


def each_row(
    names: str | tuple[str, ...],
    rows: Iterable[object],
    *,
    before: Mapping[str, Callable[..., object]] | None = None,
) -> Callable[[Test], Test]:
    """Give a test the rows of a table, as `pytest.mark.parametrize` does, but in one test.

    The fixtures of the test are shared by its rows. `before` names fixtures that a row must not share: the
    function gets the fixture's value and returns the value for the row (None: the same value).
    """
    columns = tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else names
    table = [row if len(columns) > 1 and isinstance(row, tuple) else (row,) for row in rows]

    def decorate(test: Test) -> Test:
        signature = inspect.signature(test)

        @functools.wraps(test)
        def run(**fixtures: object) -> None:
            def check(row: tuple[object, ...]) -> None:
                values = dict(fixtures)
                for name, prepare in (before or {}).items():
                    prepared = prepare(fixtures[name])
                    values[name] = fixtures[name] if prepared is None else prepared
                test(**values, **dict(zip(columns, row, strict=True)))

            check_rows(table, check)

        kept = [value for name, value in signature.parameters.items() if name not in columns]
        vars(run)["__signature__"] = signature.replace(parameters=kept)
        return run

    return decorate
