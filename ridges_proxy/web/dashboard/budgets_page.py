"""The page of the budgets above the runs."""

from __future__ import annotations

import time

from flask import render_template

from ridges_proxy.ledger import LevelQuery
from ridges_proxy.web.dashboard import figures, levels
from ridges_proxy.web.dashboard.blueprint import dashboard, given_fields
from ridges_proxy.web.dashboard.paging import Paging, with_page_size
from ridges_proxy.web.schemas.budget_query import BudgetPageQuerySchema, LevelState
from ridges_proxy.web.schemas.request_schema import load
from ridges_proxy.web.services import services

STATE_LINKS = {None: "All", LevelState.NEAR: "Nearly used up", LevelState.FULL: "Used up"}

_query = BudgetPageQuerySchema()


@dashboard.get("/budgets")
def show_budgets() -> str:
    """Show one page of the levels of all budgets, or of one budget, in their present periods."""
    query, state = level_query(given_fields())
    started_at = time.monotonic()
    table = levels.table_of(query, state)
    return render_template(
        "dashboard/budgets.html",
        levels=table,
        names=services().calls.budgets.names,
        query=query,
        state=state,
        state_links=STATE_LINKS,
        refresh_seconds=figures.refresh_seconds(time.monotonic() - started_at),
        paging=Paging(query.offset, query.limit, len(table.rows), table.total),
    )


def level_query(given: dict[str, str]) -> tuple[LevelQuery, LevelState | None]:
    """The levels that the fields of the page's query ask for, and their state. Raises InvalidRequestError."""
    fields = with_page_size(load(_query, given, "query"))
    state = fields.pop("state", None)
    return LevelQuery(**fields), state
