"""Query of `GET /v1/usage`."""

from __future__ import annotations

from typing import ClassVar

from ridges_proxy.web.schemas.field_table import Place, Treatment
from ridges_proxy.web.schemas.problems import RUN_MISSING
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.values import RunId


class UsageQuerySchema(RequestSchema):
    """The run, if neither the header nor a run token names it. Some clients add fields to every query."""

    place: ClassVar[Place] = Place(others=Treatment.DROPPED)

    run_id = RunId(required=True, error_messages=RUN_MISSING)
