"""The result of a comparison of a bill with the books: sums by model, and lists of what differs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING, NamedTuple

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.ledger.models import Kind

if TYPE_CHECKING:
    from ridges_proxy.billing.bill_file import BilledCall
    from ridges_proxy.ledger.models import BookedCall

ROUNDING_USD = Decimal(1) / NANOUSD_PER_USD
"""Difference of two amounts that counts as none: the books have whole nano-USD, rounded up."""

EXACT = Context(prec=60)
"""Enough for the sum of any bill: 13 digits before the point, and bill_columns.MAX_DECIMALS behind it."""


class Difference(NamedTuple):
    """A call that the bill and the books have, with other amounts or tokens."""

    billed: BilledCall
    booked: BookedCall
    amount: bool
    tokens: bool


@dataclass(slots=True)
class Tally:
    """Numbers of calls and sums of their amounts."""

    matched: int = 0
    differing: int = 0
    missing_in_books: int = 0
    missing_in_bill: int = 0
    billed_usd: Decimal = Decimal(0)
    """Sum of all rows of the bill that count."""
    booked_nanousd: int = 0
    """Sum of all calls in the books that count."""
    missing_in_books_usd: Decimal = Decimal(0)
    missing_in_bill_nanousd: int = 0

    @property
    def differences(self) -> int:
        """Number of rows and calls that are not matched."""
        return self.differing + self.missing_in_books + self.missing_in_bill


@dataclass(slots=True)
class Reconciliation:
    """The matches and the differences, in total and by model. A pair counts for the model of the books."""

    listed: int
    """Limit of each list."""
    matched_by_id: int = 0
    """Pairs that were found by an id, before `since` too."""
    total: Tally = field(default_factory=Tally)
    models: dict[str, Tally] = field(default_factory=dict)
    differing: list[Difference] = field(default_factory=list)
    missing_in_books: list[BilledCall] = field(default_factory=list)
    missing_in_bill: list[BookedCall] = field(default_factory=list)

    def add_pair(self, billed: BilledCall, booked: BookedCall) -> None:
        """Count a row and its call as matched or as differing."""
        amount, tokens = _amounts_differ(billed, booked), _tokens_differ(billed, booked)
        differs = amount or tokens
        for tally in self._tallies(booked.model):
            tally.matched += not differs
            tally.differing += differs
            tally.billed_usd = EXACT.add(tally.billed_usd, billed.amount_usd)
            tally.booked_nanousd += booked.cost_nanousd
        if differs and len(self.differing) < self.listed:
            self.differing.append(Difference(billed, booked, amount, tokens))

    def add_missing_in_books(self, billed: BilledCall) -> None:
        """Count a row without a call."""
        for tally in self._tallies(billed.model):
            tally.missing_in_books += 1
            tally.billed_usd = EXACT.add(tally.billed_usd, billed.amount_usd)
            tally.missing_in_books_usd = EXACT.add(tally.missing_in_books_usd, billed.amount_usd)
        if len(self.missing_in_books) < self.listed:
            self.missing_in_books.append(billed)

    def add_missing_in_bill(self, booked: BookedCall) -> None:
        """Count a call without a row."""
        for tally in self._tallies(booked.model):
            tally.missing_in_bill += 1
            tally.booked_nanousd += booked.cost_nanousd
            tally.missing_in_bill_nanousd += booked.cost_nanousd
        if len(self.missing_in_bill) < self.listed:
            self.missing_in_bill.append(booked)

    def _tallies(self, model: str) -> tuple[Tally, Tally]:
        return self.total, self.models.setdefault(model, Tally())


def _tokens_differ(billed: BilledCall, booked: BookedCall) -> bool:
    if booked.kind is Kind.EMBEDDING:
        return False  # priced by time: the books have no tokens
    if billed.completion_tokens is None:
        return billed.prompt_tokens != booked.prompt_tokens + booked.completion_tokens
    billed_tokens = billed.prompt_tokens, billed.completion_tokens
    return billed_tokens != (booked.prompt_tokens, booked.completion_tokens)


def _amounts_differ(billed: BilledCall, booked: BookedCall) -> bool:
    booked_usd = EXACT.divide(Decimal(booked.cost_nanousd), Decimal(NANOUSD_PER_USD))
    return abs(EXACT.subtract(billed.amount_usd, booked_usd)) > ROUNDING_USD
