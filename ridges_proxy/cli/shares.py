"""Shares of a budget, as text and as a bar."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from ridges_proxy.billing.money import NANOUSD_PER_USD

EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
"""The blocks that fill so many eighths of a column."""

PARTS = 8
ALL_PERCENT = 100


def share_text(part_usd: float, whole_usd: float) -> str:
    """Return a share in percent, rounded half up. It is 0% or 100% only if that is exact.

    Of an amount of zero the share is 100%.
    """
    part, whole = _nanousd(part_usd), _nanousd(whole_usd)
    if part >= whole:
        return f"{_rounded(part * ALL_PERCENT, whole) if whole else ALL_PERCENT:,}%"
    percent = _rounded(part * ALL_PERCENT, whole)
    if not percent:
        return "<1%" if part else "0%"
    return ">99%" if percent == ALL_PERCENT else f"{percent}%"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a budget: spent, held and remaining.

    A part that is not zero is always seen, and the bar is full only if nothing remains.
    """

    spent_usd: float
    held_usd: float
    whole_usd: float
    columns: int
    """The width that the bar has if there is room."""

    def text(self, columns: int, *, ascii_only: bool) -> Text:
        """Return the bar in a width. Without blocks, a part of a column is a whole one."""
        parts = 1 if ascii_only else PARTS
        spent = self._filled(self.spent_usd, columns * parts)
        used = spent_columns = -(-spent // parts)
        if self.held_usd > 0:
            used_usd = self.spent_usd + self.held_usd
            most = columns if self._is_whole(used_usd) else columns - 1
            used = min(most, max(spent_columns + 1, self._filled(used_usd, columns)))
            spent_columns = min(spent_columns, used - 1)
            spent = min(spent, spent_columns * parts)
        whole, rest = divmod(spent, parts)
        full, held, remaining = "#=." if ascii_only else "█▒░"
        return Text.assemble(
            (full * whole + EIGHTHS[rest], "green"),
            (held * (used - spent_columns), "yellow"),
            (remaining * (columns - used), "dim"),
        )

    def _filled(self, amount_usd: float, steps: int) -> int:
        """Return how many steps of the bar an amount fills: 0 only for zero, all only for the whole."""
        if self._is_whole(amount_usd):
            return steps
        amount = _nanousd(amount_usd)
        return min(steps - 1, max(1, _rounded(amount * steps, _nanousd(self.whole_usd)))) if amount else 0

    def _is_whole(self, amount_usd: float) -> bool:
        return _nanousd(amount_usd) >= _nanousd(self.whole_usd)


def _rounded(part: int, whole: int) -> int:
    """Return the quotient, rounded half up."""
    return (2 * part + whole) // (2 * whole)


def _nanousd(amount_usd: float) -> int:
    return round(amount_usd * NANOUSD_PER_USD)
