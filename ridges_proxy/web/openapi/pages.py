"""`/openapi.json`, and `/docs`: Swagger UI, served from here."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, render_template

from ridges_proxy.web.responses import json_response
from ridges_proxy.web.services import services

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere. Swagger UI writes styles into its elements."""

openapi = Blueprint(
    "openapi", __name__, template_folder="templates", static_folder="static", static_url_path="/docs/static"
)


@openapi.get("/openapi.json")
def show_document() -> Response:
    """The document: OpenAPI 3.1."""
    from ridges_proxy.web.openapi.document import document  # noqa: PLC0415 - apispec: no start need wait for it

    has_admin = services().settings.admin_api_key is not None
    return json_response(document(current_app.view_functions, has_admin=has_admin))


@openapi.get("/docs")
def show_docs() -> Response:
    """The document, to read and to try."""
    reply = Response(render_template("openapi/docs.html"), content_type="text/html; charset=utf-8")
    reply.headers["Content-Security-Policy"] = POLICY
    reply.headers["X-Content-Type-Options"] = "nosniff"
    reply.headers["Referrer-Policy"] = "no-referrer"
    return reply
