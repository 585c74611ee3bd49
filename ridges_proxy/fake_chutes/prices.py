"""The cost of a call: whole nano-USD, rounded up."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

NANOUSD_PER_USD = 1_000_000_000
NANOSECONDS_PER_SECOND = 1_000_000_000
TOKENS_PER_MTOK = 1_000_000
INPUT_AND_OUTPUT = 2


def nanousd(usd: str) -> int:
    """Parse an amount in USD, such as "0.27", without a float."""
    return int((Decimal(usd) * NANOUSD_PER_USD).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of a model, in nano-USD per million tokens."""

    input_nanousd: int
    output_nanousd: int

    @classmethod
    def read(cls, usd: str) -> Self:
        """Parse "INPUT,OUTPUT". Raises ValueError for anything else."""
        try:
            rates = [nanousd(amount) for amount in usd.split(",")]
        except ArithmeticError as error:
            raise ValueError(usd) from error
        if len(rates) != INPUT_AND_OUTPUT or min(rates) < 0:
            raise ValueError(usd)
        return cls(*rates)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Return the nano-USD for a call."""
        total = prompt_tokens * self.input_nanousd + completion_tokens * self.output_nanousd
        return -(-total // TOKENS_PER_MTOK)


@dataclass(frozen=True, slots=True)
class Prices:
    """The default rates, the rates of some models, and the price of an embedding's time."""

    rates: Rates
    nanousd_per_second: int
    of_models: Mapping[str, Rates] = field(default_factory=dict)

    def of(self, model: str | None) -> Rates:
        """Return the model's own rates, or the default ones."""
        return self.of_models.get(model or "", self.rates)

    def for_elapsed(self, elapsed_ns: int) -> int:
        """Return the nano-USD for the time of an embedding."""
        return -(-elapsed_ns * self.nanousd_per_second // NANOSECONDS_PER_SECOND)
