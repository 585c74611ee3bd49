"""`/admin/budgets`: the budgets that runs share, for operators. Registered only if ADMIN_API_KEY is set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, request

from ridges_proxy.billing.money import nanousd_from_usd
from ridges_proxy.ledger import LevelQuery
from ridges_proxy.web import budget_actions
from ridges_proxy.web.budget_json import budget_json, levels_json, page_json
from ridges_proxy.web.callers import require_operator
from ridges_proxy.web.request_body import json_body, optional_json_body
from ridges_proxy.web.responses import json_response
from ridges_proxy.web.schemas.budget_query import (
    BudgetQuerySchema,
    LevelQuerySchema,
    ResetBudgetSchema,
    SetAmountSchema,
)
from ridges_proxy.web.schemas.request_schema import load, query_fields
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Response

admin_budgets = Blueprint("admin_budgets", __name__, url_prefix="/admin/budgets")

_budget_query = BudgetQuerySchema()
_level_query = LevelQuerySchema()
_set_amount = SetAmountSchema()
_reset = ResetBudgetSchema()

admin_budgets.before_request(require_operator)


@admin_budgets.get("")
def list_budgets() -> Response:
    """All budgets, and one page of their levels, the most spent first.

    A level is a budget for one scope in one period, of which some call has drawn. `scope` finds a part of the
    scope. Levels of periods that have ended are kept for a day: `ended=1` shows them, too. A budget whose
    `usd` is null is no longer in BUDGETS, but amounts are set for it.
    """
    query = _query_of(load(_budget_query, query_fields(request.args), "query"))
    known, now = budget_actions.known_budgets(), services().calls.clock()
    page = budget_actions.levels_page(query, known)
    found = [budget_json(each, now) for each in known if query.budget in {None, each.name}]
    return json_response({"budgets": found, **page_json(page, query)})


@admin_budgets.get("/<budget>")
def show_budget(budget: str) -> Response:
    """One budget, and one page of its levels."""
    query = _query_of({**load(_level_query, query_fields(request.args), "query"), "budget": budget})
    known = budget_actions.require_known(budget)
    page = budget_actions.levels_page(query, [known])
    return json_response({**budget_json(known, services().calls.clock()), **page_json(page, query)})


@admin_budgets.post("/<budget>/amount")
def set_amount(budget: str) -> Response:
    """Set the amount of a budget, or of one of its groups or scopes. Answers the budget afterwards.

    It is in force at once, in all processes, and stays until it is set to null: then the amount in BUDGETS is
    in force again. Below what is spent already, it refuses all further calls of the period.
    """
    fields = load(_set_amount, json_body())
    usd = fields.pop("usd")
    amount_nanousd = None if usd is None else nanousd_from_usd(usd)
    after = budget_actions.set_amount(
        budget, amount_nanousd, group=fields.get("group"), scope=fields.get("scope")
    )
    return json_response(budget_json(after, services().calls.clock()))


@admin_budgets.post("/<budget>/reset")
def reset_budget(budget: str) -> Response:
    """Set what is spent in the present period to zero: in all levels of a budget, or in one group or scope.

    Answers the levels as they were before. What is held stays held, and is charged when its calls end. What
    runs have spent of their own budgets stays, too.
    """
    fields = load(_reset, optional_json_body())
    before = budget_actions.reset(budget, group=fields.get("group"), scope=fields.get("scope"))
    return json_response({"budget": budget, "levels": levels_json(before)})


def _query_of(fields: dict[str, Any]) -> LevelQuery:
    current_at = None if fields.pop("ended", False) else services().calls.clock()
    return LevelQuery(current_at=current_at, **fields)
