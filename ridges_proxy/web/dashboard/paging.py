"""The pages of a list: which rows are shown, and where the other pages begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ridges_proxy.web.schemas.run_query import MAX_LIST_OFFSET

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE_SIZES = (25, 50, 100, 200)
"""Rows of a page, to choose from."""

DEFAULT_SIZE = 50

MAX_CSV_ROWS = MAX_LIST_OFFSET
"""Rows of the file of a list."""


def with_page_size(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a query, with a limit that a page can have: no other request is served while it is made.

    The API allows more rows than the largest page has.
    """
    return {**fields, "limit": min(fields.get("limit", DEFAULT_SIZE), PAGE_SIZES[-1])}


@dataclass(frozen=True, slots=True)
class Paging:
    """One page of a list. The properties are the offsets of other pages; None: there is no such page."""

    offset: int
    size: int
    """Rows of a full page."""
    shown: int
    total: int
    """Rows on all pages."""

    @property
    def first(self) -> int | None:
        """The first page, if it is not this one."""
        return 0 if self.offset else None

    @property
    def previous(self) -> int | None:
        """The page before. Of a page after the end of the list, it is the last one."""
        return max(min(self.offset - self.size, self._last), 0) if self.offset else None

    @property
    def next(self) -> int | None:
        """The page after."""
        following = self.offset + self.size
        return following if following < self.total and following <= MAX_LIST_OFFSET else None

    @property
    def last(self) -> int | None:
        """The last page, if it is not this one and can be asked for."""
        return self._last if self.offset < self._last <= MAX_LIST_OFFSET else None

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows than pages that can be asked for."""
        return self._last > MAX_LIST_OFFSET

    @property
    def max_rows(self) -> int:
        """The number of rows that the pages have at most."""
        return MAX_LIST_OFFSET + self.size

    @property
    def max_csv_rows(self) -> int | None:
        """The number of rows in the file of the list, if it does not have all."""
        return MAX_CSV_ROWS if self.total > MAX_CSV_ROWS else None

    def offset_with(self, size: int) -> int:
        """The page of another size that has the first row of this one."""
        return self.offset // size * size

    @property
    def _last(self) -> int:
        """The beginning of the last page, counted from this one, so that no row is on two pages."""
        start = self.offset % self.size
        return start + max(0, self.total - start - 1) // self.size * self.size
