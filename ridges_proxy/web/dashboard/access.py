"""Who may see the dashboard: the cookie, the token that every action carries, and what a page may load."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from typing import TYPE_CHECKING

from flask import Response, make_response, redirect, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask_wtf.csrf import validate_csrf
from wtforms import ValidationError

from ridges_proxy.errors import InvalidApiKeyError, StaleFormError
from ridges_proxy.web.callers import check_operator_key

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.wrappers import Response as AnyResponse

SIGNED_IN_HOURS = 12

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, nothing inline, in nobody's frame."""

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_OPEN = frozenset({"dashboard.sign_in", "dashboard.static"})


class _Sessions(SecureCookieSessionInterface):
    """Flask's signed cookie, for encrypted connections alone where it was set on one."""

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 - Flask's signature
        return request.is_secure


def prepare(app: Flask, admin_api_key: str) -> None:
    """Have the app sign cookies, by a key that all workers have: a new ADMIN_API_KEY signs everybody out."""
    app.secret_key = hmac.digest(admin_api_key.encode(), b"ridges dashboard", hashlib.sha256)
    app.session_interface = _Sessions()
    app.config.update(
        SESSION_COOKIE_NAME="ridges_dashboard",
        SESSION_COOKIE_PATH="/dashboard",
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(hours=SIGNED_IN_HOURS),
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session
    )


def guard() -> AnyResponse | None:
    """Send whoever has not signed in to do so; check that an action comes from a page of ours."""
    if request.method == "POST":
        _check_form()
    if request.endpoint in _OPEN or session.get("operator"):
        return None
    where = url_for("dashboard.sign_in")
    if "HX-Request" in request.headers:  # a page that looks for news: let the browser go, not the page
        reply = make_response("", InvalidApiKeyError.status)
        reply.headers["HX-Redirect"] = where
        return reply
    return redirect(where, 303)


def admit(key: str) -> None:
    """Sign in whoever has the key. Raises InvalidApiKeyError, after a wait where that happens often."""
    check_operator_key(key)
    session.clear()
    session["operator"] = True
    session.permanent = True


def dismiss() -> None:
    """Sign out."""
    session.clear()


def protect(response: Response) -> Response:
    """Say what the page may load, and that nobody keeps it. Static files may be kept."""
    for name, value in _HEADERS.items():
        if request.endpoint != "dashboard.static" or name != "Cache-Control":
            response.headers[name] = value
    return response


def _check_form() -> None:
    try:
        validate_csrf(request.form.get("csrf_token"))
    except ValidationError:
        raise StaleFormError from None
