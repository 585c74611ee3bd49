"""The numbers of a shared table that one run knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridges_proxy.billing.prompt_keys import digest
from ridges_proxy.runtime.shared_table import MAX_TAGS, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from ridges_proxy.runtime.shared_table import SharedTable

SHARING_RUNS = MAX_TAGS
"""Runs that must have sent the same messages before others may use the count: an estimate must not tell what
one other run has sent."""


class RunNumbers:
    """The numbers that one run has kept, and those that SHARING_RUNS runs have kept."""

    def __init__(self, table: SharedTable, tag: bytes) -> None:
        """`tag` stands for the run."""
        self._table, self._tag = table, tag

    def get(self, key: bytes) -> int | None:
        """Return the number of a key, None if the run knows none."""
        record = self._table.get(key)
        if record is None:
            return None
        if record.tags != (self._tag,) and len(record.tags) < SHARING_RUNS:
            record = self._table.get(_own_key(key, self._tag)) if self._tag in record.tags else None
        return None if record is None else record.number

    def keep(self, key: bytes, number: int, better: Callable[[int, int], int]) -> None:
        """Keep the better number; this run knows it from now on.

        Until enough runs have sent the same, each of them knows only its own number: it would see by a better
        one that another run has sent this.
        """

        def kept(record: Record | None) -> Record:
            earlier, tags = record or Record(number, ())
            if len(tags) < SHARING_RUNS:
                if self._tag not in tags:
                    tags = (*tags, self._tag)
                if 1 < len(tags) < SHARING_RUNS:
                    self._keep_apart(key, number, record, better)
            return Record(better(earlier, number), tags)

        self._table.update(key, kept)

    def _keep_apart(
        self, key: bytes, number: int, shared: Record | None, better: Callable[[int, int], int]
    ) -> None:
        """Keep the number of this run, and of the first run if it was alone so far."""
        if shared and len(shared.tags) == 1:
            self._table.put(_own_key(key, shared.tags[0]), Record(shared.number, ()))
        self._table.update(
            _own_key(key, self._tag),
            lambda own: Record(number if own is None else better(own.number, number), ()),
        )


def _own_key(key: bytes, tag: bytes) -> bytes:
    """Return the key of the number that only the run of this tag knows."""
    return digest(tag, key)
