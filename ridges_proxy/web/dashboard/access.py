"""Access to the dashboard: the session cookie, CSRF checks, and the pages' security headers."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from flask import Response, g, make_response, redirect, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from flask_wtf.csrf import validate_csrf
from wtforms import ValidationError

from ridges_proxy.errors import InvalidApiKeyError, StaleFormError
from ridges_proxy.ledger import Action, Session
from ridges_proxy.web.audit_trail import record
from ridges_proxy.web.callers import caller_address, check_operator_key
from ridges_proxy.web.flask_app import NO_SESSION
from ridges_proxy.web.services import services

if TYPE_CHECKING:
    from flask import Flask, Request
    from flask.sessions import SecureCookieSession
    from werkzeug.wrappers import Response as AnyResponse

SIGNED_IN_HOURS = 12

PAGES = "/dashboard"
"""Path of the pages."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Allows only files of this server: no inline script or style, no other site's files, no framing."""

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_PUBLIC_ENDPOINTS = frozenset({"dashboard.sign_in", "dashboard.static"})


class _Sessions(SecureCookieSessionInterface):
    """Flask's signed cookie. It is marked Secure if it is set over HTTPS."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """The session of a page. Other requests have none: their cookies are not parsed."""
        return super().open_session(app, request) if request.path.startswith(PAGES) else NO_SESSION

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002 - Flask's signature
        return request.is_secure


def prepare(app: Flask, admin_api_key: str) -> None:
    """Configure signed cookies. Their key comes from ADMIN_API_KEY, so a new one signs all operators out."""
    app.secret_key = hmac.digest(admin_api_key.encode(), b"ridges dashboard", hashlib.sha256)
    app.session_interface = _Sessions()
    app.config.update(
        SESSION_COOKIE_NAME="ridges_dashboard",
        SESSION_COOKIE_PATH=PAGES,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=timedelta(hours=SIGNED_IN_HOURS),
        WTF_CSRF_TIME_LIMIT=None,  # valid as long as the session
    )


def check_access() -> AnyResponse | None:
    """Check an action's CSRF token, and redirect a browser that is not signed in to the sign-in page.

    Sets `g.operator`, the name of the operator in the audit trail.
    """
    if request.method == "POST":
        _check_csrf_token()
    if request.endpoint in _PUBLIC_ENDPOINTS:
        return None
    if _is_signed_in():
        g.operator = _operator_of(session["id"])
        return None
    sign_in_url = url_for("dashboard.sign_in")
    if "HX-Request" in request.headers:  # htmx would put the redirected page into the open one
        response = make_response("", InvalidApiKeyError.status)
        response.headers["HX-Redirect"] = sign_in_url
        return response
    return redirect(sign_in_url, 303)


def sign_in(key: str) -> None:
    """Sign in with the key. Raises InvalidApiKeyError; delayed if the address sent many invalid keys.

    The audit trail has no refused keys: anyone may send as many as they like. The log has them.
    """
    check_operator_key(key)
    if _is_signed_in():
        g.operator = _operator_of(session["id"])
        sign_out()
    session.clear()
    now = time.time()
    new = Session(secrets.token_hex(8), caller_address() or "unknown", now, now + SIGNED_IN_HOURS * 3600)
    g.operator = _operator_of(new.id)
    record(Action.SIGN_IN, new.id, valid_until=new.expires_at)
    services().sessions.add(new)
    session["id"] = new.id
    session.permanent = True


def sign_out() -> None:
    """End the session on the server, so that no copy of its cookie is valid any longer; clear the cookie."""
    record(Action.SIGN_OUT, session["id"])
    services().sessions.end(session["id"])
    session.clear()


def _operator_of(session_id: str) -> str:
    return f"session {session_id}"


def _is_signed_in() -> bool:
    session_id = session.get("id")
    return isinstance(session_id, str) and services().sessions.has(session_id)


def add_security_headers(response: Response) -> Response:
    """Add the security headers. Only static files may be cached."""
    for name, value in _HEADERS.items():
        if request.endpoint != "dashboard.static" or name != "Cache-Control":
            response.headers[name] = value
    return response


def _check_csrf_token() -> None:
    try:
        validate_csrf(request.form.get("csrf_token"))
    except ValidationError:
        raise StaleFormError from None
