"""The pages that sign an operator in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g, redirect, render_template, request, url_for

from ridges_proxy.errors import InvalidApiKeyError
from ridges_proxy.web.dashboard import access
from ridges_proxy.web.dashboard.blueprint import dashboard

if TYPE_CHECKING:
    from werkzeug.wrappers import Response


@dashboard.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> Response | str | tuple[str, int]:
    """Show the sign-in form, or sign in with the key that it sent."""
    if request.method == "GET":
        return render_template("dashboard/sign_in.html", failure=None)
    try:
        access.sign_in(request.form.get("key", ""))
    except InvalidApiKeyError as error:
        g.code = error.code
        return render_template("dashboard/sign_in.html", failure="Invalid key."), error.status
    return redirect(url_for("dashboard.overview"), 303)


@dashboard.post("/sign-out")
def sign_out() -> Response:
    """Sign out."""
    access.sign_out()
    return redirect(url_for("dashboard.sign_in"), 303)
