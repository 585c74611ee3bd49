"""The page of the audit trail, and its CSV."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import render_template

from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.config.ledger_url import MEMORY
from ridges_proxy.ledger import Action, AuditQuery
from ridges_proxy.ledger.audit_trail import MAX_ENTRIES, kept_seconds_of
from ridges_proxy.ledger.interface import DAY_SECONDS
from ridges_proxy.web.audit_json import entry_json
from ridges_proxy.web.csv_response import csv_response
from ridges_proxy.web.dashboard import figures
from ridges_proxy.web.dashboard.amounts import usd_text
from ridges_proxy.web.dashboard.blueprint import dashboard, given_fields
from ridges_proxy.web.dashboard.paging import with_page_size
from ridges_proxy.web.schemas.audit_query import AuditQuerySchema
from ridges_proxy.web.schemas.request_schema import load
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Response

    from ridges_proxy.ledger import AuditEntry

CSV_ENTRIES = 10_000
"""Limit of the entries in a CSV, the newest. The file is built in memory: about 3 MB."""

CSV_BATCH = 200
"""Entries that are read at a time. Between two batches, other requests are served."""

CSV_COLUMNS = ("at", "action", "subject", "actor", "address", "detail", "valid_until", "request_id", "id")

ACTION_TEXTS = {
    Action.SIGN_IN: "signed in",
    Action.SIGN_OUT: "signed out",
    Action.SESSION_ENDED: "session ended",
    Action.RUN_RESET: "run reset",
    Action.RUN_CLOSED: "run closed",
    Action.TOKEN_ISSUED: "token issued",
    Action.BUDGET_SET: "budget set",
    Action.BUDGET_RESET: "budget reset",
    Action.SWEEP: "swept",
}
OF_RUNS = frozenset({Action.RUN_RESET, Action.RUN_CLOSED, Action.TOKEN_ISSUED})
OF_BUDGETS = frozenset({Action.BUDGET_SET, Action.BUDGET_RESET})

_query = AuditQuerySchema()


@dashboard.get("/audit")
def show_audit() -> str:
    """Show one page of the audit trail, the newest actions first."""
    query = AuditQuery(**with_page_size(load(_query, given_fields(), "query")))
    started_at = time.monotonic()
    page = services().ledger.audit_trail(query)
    return render_template(
        "dashboard/audit.html",
        page=page,
        query=query,
        refresh_seconds=figures.refresh_seconds(time.monotonic() - started_at),
        action_texts={action.value: text for action, text in ACTION_TEXTS.items()},
        detail_of=detail_of,
        of_runs=OF_RUNS,
        of_budgets=OF_BUDGETS,
        csv_entries=CSV_ENTRIES,
        kept=kept_text(),
    )


@dashboard.get("/audit.csv")
def audit_csv() -> Response:
    """The newest entries that match, as a file."""
    query = AuditQuery(**{**load(_query, given_fields(), "query"), "cursor": None, "limit": CSV_BATCH})
    return csv_response("audit.csv", CSV_COLUMNS, map(_csv_row, _newest(query, CSV_ENTRIES)))


def detail_of(entry: AuditEntry) -> str:
    """The detail of an entry in one line, without what is not set or zero."""
    parts = [_part(name, value) for name, value in entry.detail.items() if value]
    if entry.valid_until is not None:
        parts.append(f"until {figures.time_text(entry.valid_until)}")
    return "; ".join(parts)


def kept_text() -> str:
    """How long the entries are kept, in one sentence."""
    settings = services().settings
    if settings.ledger_url == MEMORY:
        return f"The ledger is in memory: it keeps the last {MAX_ENTRIES:,} actions. A restart forgets them."
    return f"Actions are kept for {kept_seconds_of(settings.receipt_days) / DAY_SECONDS:.0f} days."


def _part(name: str, value: Any) -> str:  # noqa: ANN401 - any JSON
    if name.endswith("_usd"):
        return f"{_words(name.removesuffix('_usd'))} {usd_text(value * NANOUSD_PER_USD)}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{_words(name)} {text}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _newest(query: AuditQuery, limit: int) -> Iterator[AuditEntry]:
    """Yield the newest entries that match, batch by batch."""
    for _ in range(limit // query.limit):
        page = services().ledger.audit_trail(query)
        yield from page.entries
        if page.next_cursor is None:
            return
        query = replace(query, cursor=page.next_cursor)


def _csv_row(entry: AuditEntry) -> dict[str, object]:
    row = entry_json(entry)
    return {**row, "detail": json.dumps(row["detail"]), "valid_until": row["valid_until"] or ""}
