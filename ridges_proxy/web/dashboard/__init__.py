"""`/dashboard`: web pages for operators. Registered only if ADMIN_API_KEY is set; that key signs in."""

from ridges_proxy.web.dashboard.pages import dashboard

__all__ = ["dashboard"]
