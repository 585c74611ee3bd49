from __future__ import annotations

import pytest

from tests.support.table import check_rows, each_row


def test_every_failing_row_is_reported_with_its_error() -> None:
    def check(row: int) -> None:
        assert row != 2, "two"
        if row == 3:
            raise ValueError("three")

    with pytest.raises(AssertionError, match=r"(?s)2 of 3 rows.*2\n.*two.*3\n.*ValueError: three"):
        check_rows([1, 2, 3], check)
    with pytest.raises(AssertionError, match="no rows"):
        check_rows([], check)


def test_each_row_runs_the_test_once_for_a_row_and_prepares_fixtures() -> None:
    seen: list[tuple[object, ...]] = []

    @each_row("a, b", [(1, 2), (3, 4)], before={"box": lambda box: [*box, "fresh"]})
    def test(box: list[str], a: int, b: int) -> None:
        seen.append((tuple(box), a, b))

    test(box=["shared"])

    assert seen == [(("shared", "fresh"), 1, 2), (("shared", "fresh"), 3, 4)]


@each_row("number", [1, 2])
@each_row("letter", ["a", "b"])
def test_tables_can_be_combined(tmp_path: object, number: int, letter: str) -> None:
    assert (number, letter) in {(1, "a"), (1, "b"), (2, "a"), (2, "b")}
    assert tmp_path
