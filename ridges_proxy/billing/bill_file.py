"""Reading of a bill of the upstream that is exported as CSV, with one row for each call. Pure."""

from __future__ import annotations

import csv
import re
from array import array
from dataclasses import dataclass, field
from math import isnan, nan
from typing import TYPE_CHECKING, Any, NamedTuple

from ridges_proxy.billing.bill_columns import READERS, Fault, columns_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from decimal import Decimal

    from ridges_proxy.billing.bill_columns import Column

MAX_FAULTS = 20
"""Faults that are named. Further ones are counted."""

DELIMITERS = ",;\t"

QUOTED = re.compile(r'"[^"]*"')

BYTE_ORDER_MARK = "\ufeff"


class UnreadableBillError(Exception):
    """The bill has faults. The text names each with its line and column, up to MAX_FAULTS of them."""

    def __init__(self, faults: Faults) -> None:
        more = f"\nand {faults.more:,} more" if faults.more else ""
        super().__init__("\n".join(map(str, faults.named)) + more)


class BilledCall(NamedTuple):
    """One row of a bill."""

    line: int
    id: str
    """Empty if the bill names none."""
    at: float | None
    """Seconds since the epoch."""
    model: str
    prompt_tokens: int
    """The tokens of prompt and completion together, if the bill does not tell them apart."""
    completion_tokens: int | None
    """None if the bill does not tell them apart."""
    amount_usd: Decimal


@dataclass(slots=True)
class Bill:
    """All rows of a bill, column by column: a million rows take about 300 MB."""

    splits_tokens: bool = True
    """Whether it tells the tokens of the prompt and of the completion apart."""
    lines: array[int] = field(default_factory=lambda: array("q"))
    ids: list[str] = field(default_factory=list)
    times: array[float] = field(default_factory=lambda: array("d"))
    """NaN for a row without a time."""
    models: list[str] = field(default_factory=list)
    prompt_tokens: array[int] = field(default_factory=lambda: array("q"))
    completion_tokens: array[int] = field(default_factory=lambda: array("q"))
    amounts_usd: list[Decimal] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> BilledCall:
        """Return a row. Raises IndexError behind the last one."""
        at = self.times[position]
        return BilledCall(
            self.lines[position],
            self.ids[position],
            None if isnan(at) else at,
            self.models[position],
            self.prompt_tokens[position],
            self.completion_tokens[position] if self.splits_tokens else None,
            self.amounts_usd[position],
        )


@dataclass(slots=True)
class Faults:
    """The faults of a bill: the first ones, and the number of the others."""

    named: list[Fault] = field(default_factory=list)
    more: int = 0

    def add(self, fault: Fault) -> None:
        """Name the fault, or count it."""
        if len(self.named) < MAX_FAULTS:
            self.named.append(fault)
        else:
            self.more += 1

    def check(self) -> None:
        """Raise UnreadableBillError if there is a fault."""
        if self.named:
            raise UnreadableBillError(self)


def read_bill(lines: Iterable[str]) -> Bill:
    """Read a bill from the lines of a text file, opened with `newline=""`.

    The first line is the header. Its first delimiter (comma, semicolon or tab) is that of the file.

    Raises UnreadableBillError with all faults.
    """
    faults = Faults()
    rows = _rows(iter(lines), faults)
    _, header = next(rows, (1, []))
    columns, header_faults = columns_of(header)
    for fault in header_faults:
        faults.add(fault)
    faults.check()
    reader = _RowReader(columns, len(header), faults)
    for line, cells in rows:
        if any(map(str.strip, cells)):  # a spreadsheet may write empty rows behind the last one
            reader.add(line, cells)
    faults.check()
    return reader.bill


def _rows(lines: Iterator[str], faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each row, and the line in which it ends."""
    header = next(lines, "").removeprefix(BYTE_ORDER_MARK)
    unquoted = QUOTED.sub("", header)
    delimiter = next((char for char in unquoted if char in DELIMITERS), ",")
    reader = csv.reader(_with_first(header, lines), delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.add(Fault(reader.line_num, "", f"is no CSV: {error}"))
        else:
            yield reader.line_num, cells


def _with_first(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


class _RowReader:
    """Reads row by row into a bill, and collects the faults."""

    def __init__(self, columns: dict[str, Column], width: int, faults: Faults) -> None:
        self.bill = Bill(splits_tokens="tokens" not in columns)
        self._columns = [(kind, *column, READERS[kind]) for kind, column in columns.items()]
        self._width = width
        self._faults = faults
        self._models: dict[str, str] = {}

    def add(self, line: int, cells: list[str]) -> None:
        """Add a row to the bill, or its faults to the others."""
        if len(cells) != self._width:
            message = f"has {len(cells)} cells, but the header has {self._width}"
            self._faults.add(Fault(line, "", message))
            return
        values: dict[str, Any] = {}
        for kind, position, name, read in self._columns:
            try:
                values[kind] = read(cells[position].strip())
            except ValueError as error:
                self._faults.add(Fault(line, name, str(error)))
        if len(values) == len(self._columns):
            self._append(line, values)

    def _append(self, line: int, values: dict[str, Any]) -> None:
        bill, model, at = self.bill, values["model"], values.get("time")
        if not values.get("id") and at is None:
            self._faults.add(Fault(line, "", "has neither an id nor a time"))
            return
        bill.lines.append(line)
        bill.ids.append(values.get("id", ""))
        bill.times.append(nan if at is None else at)
        bill.models.append(self._models.setdefault(model, model))
        bill.prompt_tokens.append(values["prompt_tokens"] if bill.splits_tokens else values["tokens"])
        bill.completion_tokens.append(values["completion_tokens"] if bill.splits_tokens else 0)
        bill.amounts_usd.append(values["amount"])
