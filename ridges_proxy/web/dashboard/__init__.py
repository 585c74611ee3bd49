"""`/dashboard`: the ledger, live, for people. Registered only where ADMIN_API_KEY is set, which signs in."""

from ridges_proxy.web.dashboard.pages import dashboard

__all__ = ["dashboard"]
