"""The page of one run, and the actions on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import flash, redirect, render_template, request, url_for

from ridges_proxy.ledger import RunUsage
from ridges_proxy.ledger.outcome import ended_by
from ridges_proxy.web import run_actions
from ridges_proxy.web.dashboard import figures, levels
from ridges_proxy.web.dashboard.amounts import usd_text
from ridges_proxy.web.dashboard.blueprint import dashboard, run_id_of
from ridges_proxy.web.dashboard.open_calls import open_calls
from ridges_proxy.web.dashboard.recent_calls import with_nanousd
from ridges_proxy.web.run_context import with_present_budget, with_present_levels
from ridges_proxy.web.schemas.request_schema import query_fields
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

MAX_RUN_CALLS = 100
"""How many of a run's latest calls its page shows."""


@dashboard.get("/run")
def show_run() -> str:
    """Show one run's usage and its latest calls; zeros for a run that the ledger does not know."""
    run_id = run_id_of(query_fields(request.args))
    started_at = time.monotonic()
    usage = services().ledger.usage(run_id)
    (run,) = with_present_levels([with_present_budget(usage or RunUsage(run_id, 0))])
    return render_template(
        "dashboard/run.html",
        run=run,
        levels=levels.rows_of(run.levels),
        refused=_refused(usage),
        ended_by=usage and ended_by(usage, forgotten=False),
        known=usage is not None,
        calls=[with_nanousd(call) for call in services().recent_calls.of_run(run_id, MAX_RUN_CALLS)],
        max_calls=MAX_RUN_CALLS,
        in_flight=open_calls(run_id),
        waiting=services().ledger.waiting(run_id),
        refresh_seconds=figures.refresh_seconds(time.monotonic() - started_at),
    )


@dashboard.post("/run/reset")
def reset_run() -> Response:
    """Set what a run has spent to zero."""
    run_id = run_id_of(request.form.to_dict())
    before = run_actions.reset(run_id)
    flash(f"Reset. The run had spent {usd_text(before.spent_nanousd)}.")
    return redirect(url_for("dashboard.show_run", run_id=run_id), 303)


@dashboard.post("/run/close")
def close_run() -> Response:
    """Close a run."""
    run_id = run_id_of(request.form.to_dict())
    usage = run_actions.close(run_id)
    flash(f"Closed. The run has spent {usd_text(usage.spent_nanousd)}.")
    return redirect(url_for("dashboard.show_run", run_id=run_id), 303)


def _refused(usage: RunUsage | None) -> list[tuple[str, int]]:
    """The numbers of a run's refused calls by code, the most frequent first."""
    refused = usage.detail.refused if usage and usage.detail else {}
    return sorted(refused.items(), key=lambda item: (-item[1], item[0]))
