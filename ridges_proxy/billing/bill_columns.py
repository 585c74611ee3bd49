"""The columns of a bill that is exported as CSV: their names, and the values of their cells. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, NamedTuple

from ridges_proxy.billing.money import DECIMAL, MAX_USD
from ridges_proxy.billing.prices import MAX_COUNTED_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NAMES = {
    "id": (
        "id",
        "answer_id",
        "completion_id",
        "generation_id",
        "invocation_id",
        "request_id",
    ),
    "time": ("time", "timestamp", "date", "datetime", "created", "created_at", "started_at", "start_time"),
    "model": ("model", "model_id", "model_name", "model_permaslug", "chute", "chute_name"),
    "prompt_tokens": ("prompt_tokens", "input_tokens", "tokens_prompt", "tokens_input"),
    "completion_tokens": ("completion_tokens", "output_tokens", "tokens_completion", "tokens_output"),
    "tokens": ("tokens", "total_tokens", "tokens_total"),
    "amount": ("amount", "amount_usd", "cost", "cost_usd", "cost_total", "total_cost", "usd"),
}
"""The names that a column of each kind may have. Case does not matter; a space, `-` or `.` counts as `_`."""

MAX_TEXT_CHARACTERS = 256
"""Limit of an id and of a model's name."""

MAX_DECIMALS = 30
"""Limit of an amount. A float of 1 nano-USD has 25."""

MIN_EPOCH_SECONDS = 100_000_000
"""A smaller number is no time of a bill: this is in the year 1973. It may be a date without separators."""

MIN_EPOCH_MILLISECONDS = 100_000_000_000
"""From here on a number is a time in milliseconds: as seconds it is in the year 5138."""

_SEPARATORS = str.maketrans(" -.", "___")

_KINDS = {name: kind for kind, names in NAMES.items() for name in names}


class Fault(NamedTuple):
    """A place in a bill that cannot be read."""

    line: int
    """The first one is 1: the header."""
    column: str
    """As the header writes it; empty for a fault of the whole line."""
    message: str

    def __str__(self) -> str:
        """Return the place and the message."""
        column = f", column {self.column}" if self.column else ""
        return f"line {self.line:,}{column}: {self.message}"


class Column(NamedTuple):
    """One column of a bill."""

    position: int
    name: str


def columns_of(header: Sequence[str]) -> tuple[dict[str, Column], list[Fault]]:
    """Return the columns by their kind, and the faults of the header."""
    found: dict[str, Column] = {}
    faults: list[Fault] = []
    for position, name in enumerate(header):
        kind = _KINDS.get(name.strip().lower().translate(_SEPARATORS))
        if kind is None:
            continue
        if kind in found:
            faults.append(Fault(1, name, f"means the same as column {found[kind].name}: rename one of them"))
        found.setdefault(kind, Column(position, name.strip()))
    faults += [Fault(1, "", message) for message in _missing_in(found)]
    if {"prompt_tokens", "completion_tokens"} <= found.keys():
        found.pop("tokens", None)
    elif "tokens" in found:
        found.pop("prompt_tokens", None)
        found.pop("completion_tokens", None)
    return found, faults


def _missing_in(columns: dict[str, Column]) -> Iterator[str]:
    if not {"id", "time"} & columns.keys():
        yield f"needs an id or a time: a column {_either('id', 'time')}"
    for kind in ("model", "amount"):
        if kind not in columns:
            yield f"needs a column {_either(kind)}"
    if "tokens" not in columns:
        for kind in ("prompt_tokens", "completion_tokens"):
            if kind not in columns:
                yield f"needs a column {_either(kind, 'tokens')}"


def _either(*kinds: str) -> str:
    names = [name for kind in kinds for name in NAMES[kind]]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def text_of(cell: str) -> str:
    """Return an id or a name. Raises ValueError, as all functions for cells, with a text for the operator."""
    if len(cell) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"has more than {MAX_TEXT_CHARACTERS} characters")
    return cell


def name_of(cell: str) -> str:
    """Return a name, which must not be empty."""
    if not cell:
        raise ValueError("is empty")
    return text_of(cell)


def tokens_of(cell: str) -> int:
    """Return a number of tokens; 0 for an empty cell."""
    if not cell:
        return 0
    if not (cell.isascii() and cell.isdecimal()) or len(cell) > len(str(MAX_COUNTED_TOKENS)):
        raise ValueError("must be a whole number of tokens")
    if (tokens := int(cell)) > MAX_COUNTED_TOKENS:
        raise ValueError(f"must be at most {MAX_COUNTED_TOKENS} tokens")
    return tokens


def usd_of(cell: str) -> Decimal:
    """Return an amount in USD, exactly as it is written."""
    try:
        amount = Decimal(cell if DECIMAL.fullmatch(cell) else "")
    except InvalidOperation:
        raise ValueError("must be an amount in USD, such as 0.0123") from None
    if not 0 <= amount <= MAX_USD:
        raise ValueError(f"must be an amount in USD from 0 to {MAX_USD}")
    if -int(amount.as_tuple().exponent) > MAX_DECIMALS:
        raise ValueError(f"must have at most {MAX_DECIMALS} decimals")
    return amount


def time_of(cell: str) -> float | None:
    """Return a time in seconds since the epoch; None for an empty cell. A time without a zone is in UTC."""
    if not cell:
        return None
    if DECIMAL.fullmatch(cell):
        seconds = float(cell)
        if seconds >= MIN_EPOCH_MILLISECONDS:
            seconds /= 1_000
        if MIN_EPOCH_SECONDS <= seconds < MIN_EPOCH_MILLISECONDS:
            return seconds
    try:
        time = datetime.fromisoformat(cell.removesuffix(" UTC"))
    except ValueError:
        time = None
    if time is None or ":" not in cell:
        raise ValueError("must be a time, such as 2026-11-30T14:05:00Z, or seconds since 1970")
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


READERS: dict[str, Callable[[str], object]] = {
    "id": text_of,
    "time": time_of,
    "model": name_of,
    "prompt_tokens": tokens_of,
    "completion_tokens": tokens_of,
    "tokens": tokens_of,
    "amount": usd_of,
}
"""The function that reads a cell of each kind."""
