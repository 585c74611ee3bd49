"""The blueprint of the dashboard, with what all its pages use."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, g, render_template, request, url_for
from flask_wtf.csrf import generate_csrf

from ridges_proxy.config.ledger_url import is_of_several_servers
from ridges_proxy.errors import InternalError, InvalidRequestError, LedgerUnavailableError, ProxyError
from ridges_proxy.web.dashboard import access, amounts, figures, identifiers
from ridges_proxy.web.dashboard.facts import facts_without_ledger
from ridges_proxy.web.dashboard.paging import PAGE_SIZES
from ridges_proxy.web.dashboard.run_marks import mark_of
from ridges_proxy.web.dashboard.trouble import troubles_of
from ridges_proxy.web.schemas.agents import UsageSchema
from ridges_proxy.web.schemas.request_schema import load, query_fields
from ridges_proxy.web.services import services

NAVIGATION = (
    ("Runs", "dashboard.overview"),
    ("Calls", "dashboard.show_calls"),
    ("Spend", "dashboard.show_spend"),
    ("Budgets", "dashboard.show_budgets"),
    ("Tokens", "dashboard.show_tokens"),
    ("Audit", "dashboard.show_audit"),
)
"""The links at the top of each page: text and endpoint."""

dashboard = Blueprint(
    "dashboard", __name__, url_prefix="/dashboard", template_folder="templates", static_folder="static"
)
dashboard.before_request(access.check_access)
dashboard.after_request(access.add_security_headers)

_run = UsageSchema()


@dashboard.context_processor
def template_context() -> dict[str, Any]:
    """Functions and values that the templates use."""
    return {
        "usd": amounts.usd,
        "usd_text": amounts.usd_text,
        "usd_of": amounts.usd_of,
        "split_id": identifiers.SplitId.of,
        "element_id": identifiers.element_id,
        "number_text": figures.number_text,
        "duration_text": figures.duration_text,
        "time_text": figures.time_text,
        "clock": time.time,
        "bar_of": figures.Bar.of,
        "mark_of": mark_of,
        "csrf_token": generate_csrf,
        "models": sorted(services().prices.prices),
        "can_issue": services().run_tokens.can_issue,
        "navigation": NAVIGATION,
        "page_url": page_url,
        "calls_url": calls_url,
        "other_page_url": other_page_url,
        "page_sizes": PAGE_SIZES,
        "is_of_several_servers": is_of_several_servers(services().settings.ledger_url),
    }


@dashboard.errorhandler(ProxyError)
def show_error(error: ProxyError) -> tuple[str, int]:
    """Show the error's message, the invalid fields, and what is wrong if the ledger does not answer."""
    g.code = error.code
    page = render_template(
        "dashboard/error.html",
        error=error,
        problems=error.problems if isinstance(error, InvalidRequestError) else [],
        bug=isinstance(error, InternalError),
        troubles=troubles_of(facts_without_ledger()) if _may_see_trouble_of(error) else [],
    )
    return page, error.status


def _may_see_trouble_of(error: ProxyError) -> bool:
    """Whether the ledger has failed, for someone who is known to be an operator."""
    return isinstance(error, LedgerUnavailableError) and "operator" in g


def run_id_of(fields: dict[str, str]) -> str:
    """The run id of a page or an action. Raises InvalidRequestError."""
    run_id: str = load(_run, fields, "query")["run_id"]
    return run_id


def given_fields() -> dict[str, str]:
    """The fields of the query that are not empty."""
    return {name: text for name, text in query_fields(request.args).items() if text}


def page_url(**changes: Any) -> str:  # noqa: ANN401 - any value of a query
    """The URL of this page with some of its query changed; None removes a parameter."""
    return other_page_url(str(request.endpoint), **changes)


def other_page_url(endpoint: str, **changes: Any) -> str:  # noqa: ANN401 - any value of a query
    """The URL of a page that reads the query of this one, with some of the query changed."""
    query: dict[str, Any] = {**request.args.to_dict(), **changes}
    return url_for(endpoint, **{name: value for name, value in query.items() if value})


def calls_url(**filters: str) -> str:
    """The URL of the recent calls that match; an empty text is no filter."""
    query: dict[str, Any] = {name: text for name, text in filters.items() if text}
    return url_for("dashboard.show_calls", **query)
