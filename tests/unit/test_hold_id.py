"""Ids of holds: unique, in the order of time, with the time when they were made."""

from __future__ import annotations

import uuid

from ridges_proxy.ledger.hold_id import new_hold_id, started_at
from tests.support.table import check_rows

NOW = 1_764_500_000.123


def test_an_id_is_a_uuid_of_version_7_as_text_without_hyphens() -> None:
    for _ in range(100):
        made = uuid.UUID(hex=new_hold_id(NOW))
        assert (made.version, made.variant) == (7, uuid.RFC_4122)
        assert made.int >> 80 == 1_764_500_000_123


def test_ids_sort_by_the_time_when_they_were_made() -> None:
    made = [new_hold_id(NOW + milliseconds / 1000) for milliseconds in range(0, 2_000, 7)]
    assert sorted(made) == made


def test_ids_of_the_same_millisecond_differ_in_all_their_74_random_bits() -> None:
    made = {new_hold_id(NOW) for _ in range(10_000)}
    assert len(made) == 10_000
    changed = 0
    first = int(new_hold_id(NOW), 16)
    for each in made:
        changed |= first ^ int(each, 16)
    assert changed.bit_count() == 74


def test_the_time_of_an_id_is_read_back_to_the_millisecond() -> None:
    def check(row: tuple[float, float]) -> None:
        now, expected = row
        assert started_at(new_hold_id(now)) == expected

    check_rows(
        [
            (NOW, NOW),
            (0.0, 0.0),
            (12.3456, 12.345),
            (-5.0, 0.0),  # a clock before 1970
            (1e15, ((1 << 48) - 1) / 1000),  # a clock after the last time that fits
        ],
        check,
    )


def test_other_ids_have_no_time() -> None:
    def check(hold_id: str) -> None:
        assert started_at(hold_id) is None

    check_rows([uuid.uuid4().hex, "", "hold-1", "0" * 12 + "7"], check)
