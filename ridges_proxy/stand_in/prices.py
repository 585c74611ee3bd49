"""What a call costs: integers, nano-USD, rounded up."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

NANOUSD_PER_USD = 1_000_000_000
NANOSECONDS_PER_SECOND = 1_000_000_000
TOKENS_PER_MTOK = 1_000_000


def nanousd(usd: str) -> int:
    """Read an amount such as "0.27" without ever passing through a float."""
    return int((Decimal(usd) * NANOUSD_PER_USD).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class Prices:
    """One price for every model, input as output, and one for the embedding's time."""

    nanousd_per_mtok: int
    nanousd_per_second: int

    def for_tokens(self, tokens: int) -> int:
        """Nano-USD for prompt and completion together."""
        return -(-tokens * self.nanousd_per_mtok // TOKENS_PER_MTOK)

    def for_elapsed(self, elapsed_ns: int) -> int:
        """Nano-USD for the time an embedding took."""
        return -(-elapsed_ns * self.nanousd_per_second // NANOSECONDS_PER_SECOND)
