"""Check of responses against the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonschema_rs import Draft202012Validator
from werkzeug.exceptions import HTTPException

from ridges_proxy.errors import ClientGoneError
from ridges_proxy.web.openapi.document import document
from ridges_proxy.web.openapi.operations import ADMIN_OPERATIONS, OPERATIONS, Operation

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.test import TestResponse

BY_ENDPOINT = {operation.endpoint: operation for operation in (*OPERATIONS, *ADMIN_OPERATIONS)}

FOR_BROWSERS = ("dashboard.", "openapi.")
"""Endpoints of pages, and of the document itself."""

NO_JSON = {"HEAD", "OPTIONS"}


class Documented:
    """The OpenAPI document, with checks of responses."""

    def __init__(self, app: Flask) -> None:
        self.document = document(app.view_functions, has_admin=True)
        self._validators: dict[tuple[str, str, str], Any] = {}

    def content_of(self, operation: Operation, status: int) -> dict[str, Any]:
        """The documented content of a response with this status. Fails if the status is not documented."""
        responses = self.document["paths"][operation.path][operation.method.lower()]["responses"]
        assert str(status) in responses, (
            f"{operation.method} {operation.path} answers {status}: not documented"
        )
        content: dict[str, Any] = responses[str(status)]["content"]
        return content

    def check(self, operation: Operation, reply: TestResponse) -> None:
        content = self.content_of(operation, reply.status_code)
        assert reply.mimetype in content, f"{operation.path} answers {reply.mimetype}: not documented"
        if reply.mimetype == "application/json":
            key = operation.path, operation.method, str(reply.status_code)
            if key not in self._validators:
                schema = {**content[reply.mimetype]["schema"], "components": self.document["components"]}
                self._validators[key] = Draft202012Validator(schema)
            self._validators[key].validate(reply.get_json())


def operation_of(app: Flask, reply: TestResponse) -> Operation | None:
    """The operation that answered, or None if the response needs no documentation."""
    request = reply.request
    if request.method in NO_JSON or reply.status_code == ClientGoneError.status:
        return None
    try:
        endpoint, _ = app.url_map.bind("proxy").match(request.path, request.method)
    except HTTPException:
        return None  # no such path, or another method
    if endpoint.startswith(FOR_BROWSERS) or "." not in endpoint:
        return None  # a page, or a route that a test added
    assert endpoint in BY_ENDPOINT, f"{endpoint} is not documented"
    return BY_ENDPOINT[endpoint]
