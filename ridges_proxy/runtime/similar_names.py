"""The similarity of names, for messages that say what may have been meant. Pure.

It takes time in proportion to the names' length: callers choose the names. `difflib` needs its square.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_CHARACTERS = 256
"""Characters of a name that are compared."""


def similarity(name: str, other: str) -> float:
    """How similar two names are, from 0 to 1; upper and lower case are the same.

    It is the Dice coefficient of their pairs of neighbouring characters, each pair counted once.
    """
    pairs, other_pairs = _pairs(name), _pairs(other)
    return 2 * len(pairs & other_pairs) / (len(pairs) + len(other_pairs))


def most_similar_first(name: str, known: Iterable[str]) -> list[str]:
    """The known names in the order of their similarity to a name. Equal ones keep their order."""
    return sorted(known, key=lambda each: -similarity(name, each))


def _pairs(name: str) -> set[str]:
    """The pairs of characters. A space on each side makes the first and the last character count, too."""
    padded = f" {name[:MAX_CHARACTERS].casefold()} "
    return {padded[start : start + 2] for start in range(len(padded) - 1)}
