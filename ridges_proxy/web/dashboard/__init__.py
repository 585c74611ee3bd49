"""`/dashboard`: web pages for operators. Registered only if ADMIN_API_KEY is set; that key signs in."""

from ridges_proxy.web.dashboard import (
    audit_page,
    budgets_page,
    calls_page,
    csv_files,
    overview,
    run_page,
    sign_in_page,
    spend_page,
    token_page,
)
from ridges_proxy.web.dashboard.blueprint import dashboard

__all__ = [
    "audit_page",
    "budgets_page",
    "calls_page",
    "csv_files",
    "dashboard",
    "overview",
    "run_page",
    "sign_in_page",
    "spend_page",
    "token_page",
]
