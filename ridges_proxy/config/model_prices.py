"""Parser of MODEL_PRICES. The texts of its ValueErrors follow the setting's name."""

from __future__ import annotations

import reprlib
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeGuard

from ridges_proxy.billing.money import nanousd_from_usd
from ridges_proxy.billing.prices import Price
from ridges_proxy.config.structured_text import read_structure
from ridges_proxy.config.tokenizer_file import TokenizerFile

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NAME_CHARACTERS = 256
_NAME_RULE = f"1 to {MAX_NAME_CHARACTERS} printable characters"

REQUIRED_KEYS = frozenset({"input", "output"})
KNOWN_KEYS = ("input", "output", "cached_input", "upstream", "tokenizer", "context_length")
MAX_CONTEXT_LENGTH = 1_000_000_000


def read_prices(raw: str) -> Mapping[str, Price]:
    """Read the prices by model, from JSON or from the path of a JSON or TOML file."""
    table = read_structure(raw)
    if not isinstance(table, dict) or not table:
        raise ValueError("must have at least one model with its price")
    tokenizers: dict[str, TokenizerFile] = {}
    return MappingProxyType({model: _price(model, value, tokenizers) for model, value in table.items()})


def _price(model: str, value: object, tokenizers: dict[str, TokenizerFile]) -> Price:
    if not _is_name(model):
        raise ValueError(f"has a model whose name is not {_NAME_RULE}: {reprlib.repr(model)}")
    keys = value if isinstance(value, dict) else {"input": value, "output": value}
    _check_keys(model, keys)
    price = Price(
        _rate(model, keys["input"]),
        _rate(model, keys["output"]),
        _rate(model, keys["cached_input"]) if "cached_input" in keys else None,
        _upstream(model, keys["upstream"]) if "upstream" in keys else None,
        _tokenizer(model, keys["tokenizer"], tokenizers) if "tokenizer" in keys else None,
        _context_length(model, keys["context_length"]) if "context_length" in keys else None,
    )
    # Holds are computed at the price of input: cached input must not cost more than was held.
    if price.cached_input_nanousd is not None and price.cached_input_nanousd > price.input_nanousd:
        raise ValueError(f"has a cached_input above input for {model!r}")
    return price


def _check_keys(model: str, keys: Mapping[str, object]) -> None:
    for key in keys:
        if key not in KNOWN_KEYS:
            known = ", ".join(KNOWN_KEYS)
            raise ValueError(f"has the unknown key {reprlib.repr(key)} for {model!r}; known are {known}")
    if not keys.keys() >= REQUIRED_KEYS:
        raise ValueError(f"needs one number, or input and output, for {model!r}")


def _upstream(model: str, name: object) -> str:
    if not _is_name(name):
        raise ValueError(f"has an upstream for {model!r} that is not {_NAME_RULE}")
    return name


def _tokenizer(model: str, path: object, loaded: dict[str, TokenizerFile]) -> TokenizerFile:
    """Return the tokenizer of a file. Several models may share one."""
    if not isinstance(path, str) or not path:
        raise ValueError(f"has a tokenizer for {model!r} that is not the path of a file")
    if path not in loaded:
        loaded[path] = TokenizerFile(path)
    return loaded[path]


def _context_length(model: str, length: object) -> int:
    if isinstance(length, int | Decimal) and not isinstance(length, bool):
        whole = int(length) if 1 <= length <= MAX_CONTEXT_LENGTH else 0
        if whole and whole == length:
            return whole
    raise ValueError(
        f"has a context_length for {model!r} that is not a whole number from 1 to {MAX_CONTEXT_LENGTH:,}"
    )


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS and value.isprintable()


def _rate(model: str, rate: object) -> int:
    if isinstance(rate, bool) or not isinstance(rate, int | Decimal):
        raise ValueError(f"has a price that is not a number for {model!r}")  # noqa: TRY004 - parsers raise ValueError only
    try:
        return nanousd_from_usd(str(rate))
    except ValueError as error:
        raise ValueError(f"has a price for {model!r} that {error}") from None
