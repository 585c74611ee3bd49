"""Operators' views of budgets, and their changes. Each change is logged, and the audit trail has it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from flask import g

from ridges_proxy.billing.money import usd_from_nanousd
from ridges_proxy.errors import BudgetNotFoundError, InvalidRequestError, Problem
from ridges_proxy.ledger import Action, LevelPage, LevelQuery
from ridges_proxy.web.audit_trail import record
from ridges_proxy.web.callers import caller_address
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ridges_proxy.billing.budgets import Budget
    from ridges_proxy.ledger import LevelUsage, SetAmount

EVERY_SCOPE = ""
"""The scope of an amount that is set for the whole budget."""

LEVELS_AT_A_TIME = 100_000
"""Levels that a reset reads at a time. Their order may change between two pages, so one should have all."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownBudget:
    """A budget of BUDGETS, or one that is no longer there but has amounts that operators have set."""

    name: str
    budget: Budget | None
    """None: BUDGETS does not have it."""
    set_amounts: tuple[SetAmount, ...]

    def amount_nanousd(self, scope: str) -> int | None:
        """The amount in force for a scope; None if BUDGETS does not have the budget and none is set."""
        amounts = self._amounts
        if scope in amounts or EVERY_SCOPE in amounts:
            return amounts.get(scope, amounts.get(EVERY_SCOPE))
        return None if self.budget is None else self.budget.amount_nanousd

    @cached_property
    def _amounts(self) -> dict[str, int]:
        """The set amounts by scope. A page of levels asks for each of them, and there may be thousands."""
        return {each.scope: each.amount_nanousd for each in self.set_amounts}


def known_budgets() -> list[KnownBudget]:
    """All budgets of BUDGETS, in its order, and then those that are no longer there."""
    configured = {budget.name: budget for budget in services().budgets.all}
    amounts = services().ledger.set_amounts()
    names = dict.fromkeys([*configured, *(each.budget for each in amounts)])
    return [
        KnownBudget(name, configured.get(name), tuple(each for each in amounts if each.budget == name))
        for name in names
    ]


def require_known(name: str) -> KnownBudget:
    """The budget of this name. Raises BudgetNotFoundError."""
    for known in known_budgets():
        if known.name == name:
            return known
    raise BudgetNotFoundError


def levels_page(query: LevelQuery, known: Sequence[KnownBudget]) -> LevelPage:
    """One page of levels, with the amounts that limit the next calls.

    The ledger has the amounts of the last reservations, and BUDGETS may have been reloaded since then.
    """
    budgets = {each.name: each for each in known if each.budget}
    page = services().ledger.list_levels(query)
    return LevelPage([_with_present_amount(usage, budgets) for usage in page.levels], page.total)


def _with_present_amount(usage: LevelUsage, budgets: dict[str, KnownBudget]) -> LevelUsage:
    level = usage.level
    if level.budget not in budgets or (
        level.resets_at is not None and level.resets_at <= services().calls.clock()
    ):
        return usage
    amount_nanousd = budgets[level.budget].amount_nanousd(level.scope)
    return usage._replace(level=level._replace(amount_nanousd=amount_nanousd or 0))


def set_amount(name: str, amount_nanousd: int | None, *, group: str | None, scope: str | None) -> KnownBudget:
    """Set the amount of a budget, or of one of its scopes. None: remove it. Returns the budget afterwards.

    Of a budget that BUDGETS does not have, an amount can only be removed. Raises BudgetNotFoundError, and
    InvalidRequestError for a group or a scope that the budget does not have.
    """
    known = require_known(name)
    if amount_nanousd is not None and known.budget is None:
        raise BudgetNotFoundError
    wanted = _scope_of(known, group, scope)
    before_nanousd = known.amount_nanousd(wanted)
    record(
        Action.BUDGET_SET,
        name,
        scope=wanted or None,
        amount_usd=_usd_or_none(amount_nanousd),
        previous_usd=_usd_or_none(before_nanousd),
    )
    services().ledger.set_amount(name, wanted, amount_nanousd)
    after = KnownBudget(name, known.budget, tuple(_amounts_of(name)))
    _log(
        "budget amount set" if amount_nanousd is not None else "budget amount removed",
        budget=name,
        scope=wanted or None,
        amount_usd=_usd_or_none(after.amount_nanousd(wanted)),
        previous_usd=_usd_or_none(before_nanousd),
    )
    return after


def reset(name: str, *, group: str | None, scope: str | None) -> list[LevelUsage]:
    """Set what the levels of a budget have spent in their present periods to zero: all, or one scope's.

    Returns their usages before that. Raises the errors of `set_amount`.
    """
    known = require_known(name)
    wanted = _scope_of(known, group, scope)
    ledger = services().ledger
    present = list(_present_levels(name, wanted))
    record(
        Action.BUDGET_RESET,
        name,
        scope=wanted or None,
        levels=len(present),
        spent_usd=_spent_usd(present),
    )
    levels = [usage.level for usage in present]
    found = [before for level in levels if (before := ledger.reset_level(level)) is not None]
    _log(
        "budget reset",
        budget=name,
        scope=wanted or None,
        levels=len(found),
        spent_usd=_spent_usd(found),
    )
    return found


def _present_levels(name: str, scope: str) -> Iterator[LevelUsage]:
    query = LevelQuery(name, scope, services().calls.clock(), limit=LEVELS_AT_A_TIME)
    while True:
        page = services().ledger.list_levels(query)
        yield from (usage for usage in page.levels if scope in {EVERY_SCOPE, usage.level.scope})
        query = replace(query, offset=query.offset + len(page.levels))
        if not page.levels or query.offset >= page.total:
            return


def _amounts_of(name: str) -> Iterator[SetAmount]:
    return (each for each in services().ledger.set_amounts() if each.budget == name)


def _scope_of(known: KnownBudget, group: str | None, scope: str | None) -> str:
    """The scope that a request names, or EVERY_SCOPE. Raises InvalidRequestError unless the budget has it.

    A budget with other conditions still has the scopes for which amounts are set: they can be removed.
    """
    budget = known.budget
    if scope is not None and scope in {each.scope for each in known.set_amounts}:
        has_scope = True
    elif budget is None:
        has_scope = group is None and scope is None
    elif group is not None:
        scope = budget.scope_of(group)
        has_scope = budget.group is not None and budget.has_scope(scope)
    else:
        has_scope = scope is None or budget.has_scope(scope)
    if not has_scope:
        own = None if budget is None else budget.scope_of(budget.group)
        text = "No amount is set for it" if own is None else f"The scope of this budget is {own}"
        field = "scope" if group is None else "group"
        raise InvalidRequestError([Problem(["body", field], text, "value_error")])
    return scope or EVERY_SCOPE


def _spent_usd(usages: Sequence[LevelUsage]) -> float:
    return usd_from_nanousd(sum(usage.spent_nanousd for usage in usages))


def _usd_or_none(amount_nanousd: int | None) -> float | None:
    return None if amount_nanousd is None else usd_from_nanousd(amount_nanousd)


def _log(event: str, **fields: object) -> None:
    """Log a change, and who has made it: the address, and the id of the request."""
    who = {"address": caller_address(), "request_id": g.request_id}
    logger.info(event, extra={**fields, **who})
