"""Schemas of `/agents/*`. Unknown fields are ignored, nested ones too: agents send many."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from marshmallow import ValidationError

from ridges_proxy.web.schemas.chat_messages import MessageList, MessageObject
from ridges_proxy.web.schemas.field_table import AGENT_MESSAGE, AGENTS, Place
from ridges_proxy.web.schemas.problems import MAX_TEMPERATURE, MESSAGES
from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.values import Name, Options, RunId, String, Value

NULL_STRING = {"null": MESSAGES["string_type"]}
NULL_LIST = {"null": MESSAGES["list_type"]}
"""On `/agents`, null in a required field is a value of the wrong type."""


class AgentMessage(MessageObject):
    """A message, reduced to its role and content."""

    def __init__(self) -> None:
        properties = {
            "role": String(required=True, error_messages=NULL_STRING),
            "content": String(required=True, error_messages=NULL_STRING),
        }
        super().__init__(properties, AGENT_MESSAGE)


class Temperature(Value):
    """A temperature. A string such as "0.5" is refused: it shows a bug of the client."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__({"type": "number", "minimum": 0, "maximum": MAX_TEMPERATURE}, **options)

    def read(self, value: Any) -> float:  # noqa: ANN401 - any JSON
        """A temperature as a float."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValidationError(MESSAGES["float_type"])
        if value < 0:
            raise ValidationError(MESSAGES["greater_than_equal"])
        if value > MAX_TEMPERATURE:
            raise ValidationError(MESSAGES["less_than_equal"])
        return float(value)


class AgentSchema(RequestSchema):
    """Base class of the agents' schemas."""

    place: ClassVar[Place] = AGENTS


class InferenceSchema(AgentSchema):
    """`POST /agents/inference`."""

    run_id = RunId(required=True, error_messages=NULL_STRING)
    messages = MessageList(AgentMessage(), required=True, error_messages=NULL_LIST)
    model = Name(load_default=None)
    temperature = Temperature(load_default=None)


class EmbeddingSchema(AgentSchema):
    """`POST /agents/embedding`."""

    run_id = RunId(required=True, error_messages=NULL_STRING)
    input = String(required=True, error_messages=NULL_STRING)


class UsageSchema(AgentSchema):
    """The query of `GET /agents/usage`."""

    run_id = RunId(required=True, error_messages=NULL_STRING)
