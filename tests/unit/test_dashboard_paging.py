"""The pages of a list on the dashboard."""

from __future__ import annotations

from ridges_proxy.web.dashboard.paging import Paging, with_page_size
from ridges_proxy.web.schemas.run_query import MAX_LIST_OFFSET
from tests.support.table import check_rows

PAGES: dict[tuple[int, int, int], tuple[int | None, ...]] = {
    (0, 50, 0): (None, None, None, None),
    (0, 50, 50): (None, None, None, None),
    (0, 50, 51): (None, None, 50, 50),
    (50, 50, 51): (0, 0, None, None),
    (50, 50, 150): (0, 0, 100, 100),
    (30, 50, 150): (0, 0, 80, 130),  # rows that are not a multiple of a page: no row is on two pages
    (10, 25, 3): (0, 0, None, None),
    (500, 50, 120): (0, 100, None, None),  # after the end: rows have gone since the link was made
    (MAX_LIST_OFFSET, 50, 20_000): (0, MAX_LIST_OFFSET - 50, None, None),
}
"""Offset, size and number of rows: the offsets of the first, previous, next and last page."""


def test_the_pages_around_a_page() -> None:
    def check(row: tuple[int, int, int]) -> None:
        offset, size, total = row
        paging = Paging(offset, size, min(size, max(0, total - offset)), total)
        assert (paging.first, paging.previous, paging.next, paging.last) == PAGES[row]

    check_rows(PAGES, check)


def test_a_list_says_if_its_pages_or_its_file_do_not_have_all_rows() -> None:
    small, large = Paging(0, 50, 50, MAX_LIST_OFFSET + 1 - 50), Paging(0, 50, 50, MAX_LIST_OFFSET + 51)
    assert (small.is_cut, small.max_csv_rows) == (False, None)
    assert (large.is_cut, large.max_rows, large.max_csv_rows) == (True, MAX_LIST_OFFSET + 50, MAX_LIST_OFFSET)


def test_another_page_size_keeps_the_first_row_on_the_page() -> None:
    for offset in (0, 50, 175):
        for size in (25, 50, 100, 200):
            start = Paging(offset, 50, 50, 1000).offset_with(size)
            assert start <= offset < start + size
            assert start % size == 0


def test_a_page_has_no_more_rows_than_the_sizes_to_choose_from() -> None:
    assert with_page_size({"sort": "calls"}) == {"sort": "calls", "limit": 50}
    assert [with_page_size({"limit": limit})["limit"] for limit in (1, 200, 1_000)] == [1, 200, 200]
