"""Budgets as text, with which the master hands them to its running workers."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import TYPE_CHECKING

from ridges_proxy.billing.budgets import Budget

if TYPE_CHECKING:
    from collections.abc import Iterable


def to_text(budgets: Iterable[Budget]) -> str:
    """Return the budgets as JSON."""
    return json.dumps([astuple(budget) for budget in budgets])


def from_text(text: str) -> tuple[Budget, ...]:
    """Return the budgets of a text."""
    return tuple(Budget(*row) for row in json.loads(text))
