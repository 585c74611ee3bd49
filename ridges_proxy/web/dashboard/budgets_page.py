"""The page of the budgets above the runs."""

from __future__ import annotations

import time

from flask import render_template

from ridges_proxy.ledger import LevelQuery
from ridges_proxy.web.dashboard import figures, levels
from ridges_proxy.web.dashboard.blueprint import dashboard, given_fields
from ridges_proxy.web.schemas.budget_query import BudgetQuerySchema
from ridges_proxy.web.schemas.request_schema import load
from ridges_proxy.web.schemas.run_query import MAX_LIST_OFFSET
from ridges_proxy.web.services import services

PAGE_LEVELS = 50

_query = BudgetQuerySchema(only=("budget", "offset", "limit"))


@dashboard.get("/budgets")
def show_budgets() -> str:
    """Show one page of the levels of all budgets, or of one budget, in their present periods."""
    query = LevelQuery(**{"limit": PAGE_LEVELS, **load(_query, given_fields(), "query")})
    started_at = time.monotonic()
    table = levels.table_of(query)
    return render_template(
        "dashboard/budgets.html",
        levels=table,
        names=services().calls.budgets.names,
        query=query,
        refresh_seconds=figures.refresh_seconds(time.monotonic() - started_at),
        max_offset=MAX_LIST_OFFSET,
    )
