"""Routes of the OpenAPI document and of Swagger UI, whose files are part of the package."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, render_template

from ridges_proxy.web.responses import json_response
from ridges_proxy.web.services import services

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Allows nothing from other hosts. Swagger UI needs inline styles."""

openapi = Blueprint(
    "openapi", __name__, template_folder="templates", static_folder="static", static_url_path="/docs/static"
)


@openapi.get("/openapi.json")
def show_document() -> Response:
    """The OpenAPI 3.1 document."""
    from ridges_proxy.web.openapi.document import document  # noqa: PLC0415 - importing apispec would delay the start

    has_admin = services().settings.admin_api_key is not None
    return json_response(document(current_app.view_functions, has_admin=has_admin))


@openapi.get("/docs")
def show_docs() -> Response:
    """Swagger UI for the document."""
    reply = Response(render_template("openapi/docs.html"), content_type="text/html; charset=utf-8")
    reply.headers["Content-Security-Policy"] = POLICY
    reply.headers["X-Content-Type-Options"] = "nosniff"
    reply.headers["Referrer-Policy"] = "no-referrer"
    return reply
