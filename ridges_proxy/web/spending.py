"""Whose money a request spends: the run that it names, and the call that it becomes."""

from __future__ import annotations

from flask import g, request

from ridges_proxy.calls import Call
from ridges_proxy.ledger import Run
from ridges_proxy.web.connection import ClientConnection
from ridges_proxy.web.parts import parts


def name_run(body: object) -> object:
    """The body with the run that X-Run-Id names, if it names none itself."""
    given = request.headers.get("X-Run-Id")
    if isinstance(body, dict) and body.get("run_id") is None and given is not None:
        return {**body, "run_id": given}
    return body


def begin_call(run_id: str, model: str | None) -> Call:
    """The call of this request."""
    run = Run(run_id, parts().settings.max_cost_nanousd)
    call = g.call = Call(run, ClientConnection(request.environ), model)
    return call
