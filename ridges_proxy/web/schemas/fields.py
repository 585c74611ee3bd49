"""What a request may carry. Unknown fields are ignored, nested ones too: agents send many."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields

from ridges_proxy.errors import InvalidRequestError, Problem
from ridges_proxy.web.schemas.shapes import shape_of, takes

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.datastructures import MultiDict

MAX_NAME_CHARACTERS = 256
MAX_TEMPERATURE = 2.0
"""The range of OpenAI's API; what lies outside is refused upstream, after the agent has waited."""

MAX_MESSAGES = 10_000
"""An agent's longest run has 300 steps; a body of nothing but messages would hold up all other calls."""

MAX_FAULTY_MESSAGES = 100
"""How many are named: a body of two million would be answered with 285 MB, after 12 seconds for all."""

MAX_FIELDS = 100
"""More than any schema has that refuses unknown fields: to name half a million of them took 3 seconds."""

MESSAGES = {
    "missing": "Field required",
    "missing_run": "Field required; the header X-Run-Id or a run token can name the run, too",
    "string_type": "Input should be a valid string",
    "string_too_short": "String should have at least 1 character",
    "string_too_long": f"String should have at most {MAX_NAME_CHARACTERS} characters",
    "string_pattern_mismatch": "String should have no control characters",
    "float_type": "Input should be a valid number",
    "greater_than_equal": "Input should be greater than or equal to 0",
    "less_than_equal": f"Input should be less than or equal to {MAX_TEMPERATURE:g}",
    "list_type": "Input should be a valid list",
    "too_short": "List should have at least 1 item after validation, not 0",
    "too_long": f"List should have at most {MAX_MESSAGES} items after validation",
    "model_attributes_type": "Input should be a valid dictionary or object to extract fields from",
    "json_invalid": "JSON decode error",
    "content_type": "Content-Type should be application/json",
    "int_parsing": "Input should be a valid integer",
    "value_error": "Input is not one of the values allowed here",
    "extra_forbidden": "Extra inputs are not permitted",
    "too_many_fields": f"Input should have at most {MAX_FIELDS} fields",
}
"""The words of each type of problem. Agents in the field know these types and words."""

_TYPES = {words: name for name, words in MESSAGES.items()}


def problem(loc: list[str | int], kind: str) -> Problem:
    """A problem of a known type at a place."""
    return Problem(loc, MESSAGES[kind], kind)


def load(schema: Schema, data: object, source: str = "body") -> dict[str, Any]:
    """The validated fields; raises InvalidRequestError naming every field that does not fit.

    `source` is where the data came from, `body` or `query`.
    """
    if not isinstance(data, dict):
        raise InvalidRequestError([problem([source], "model_attributes_type")])
    if len(data) > MAX_FIELDS and schema.unknown == RAISE:
        raise InvalidRequestError([problem([source], "too_many_fields")])
    try:
        loaded: dict[str, Any] = schema.load(data)
    except ValidationError as error:
        raise InvalidRequestError(_problems([source], error.messages)) from None
    return loaded


def query_fields(args: MultiDict[str, str]) -> dict[str, str]:
    """A query's fields; a name that stands twice is refused, as either may be meant."""
    repeated = [problem(["query", name], "value_error") for name, values in args.lists() if len(values) > 1]
    if repeated:
        raise InvalidRequestError(repeated)
    return args.to_dict()


def _problems(loc: list[str | int], messages: Any) -> list[Problem]:  # noqa: ANN401 - marshmallow's nested form
    """Marshmallow's messages, nested by field and index, as a flat list."""
    if isinstance(messages, dict):
        return [found for key, inner in messages.items() for found in _problems([*loc, key], inner)]
    return [Problem(loc, words, _TYPES.get(words, "value_error")) for words in messages]


def take(read: Callable[[Any], Any], null: str, **kwargs: Any) -> fields.Field[Any]:  # noqa: ANN401 - marshmallow's
    """A field read by a function; `null` is the type of problem that a null is."""
    words: dict[str, Any] = {"required": MESSAGES["missing"], "null": MESSAGES[null]}
    shape = shape_of(read)
    if "load_default" in kwargs:
        shape = {**shape, "default": kwargs["load_default"]}
    return fields.Function(deserialize=read, error_messages=words, metadata=shape, **kwargs)


def run_field() -> fields.Field[Any]:
    """The run that a call on `/v1` is for, wherever it is named."""
    field = required(run_id_text)
    field.error_messages["required"] = MESSAGES["missing_run"]
    return field


def required(read: Callable[[Any], Any]) -> fields.Field[Any]:
    """A field of `/v1` that must be there."""
    return take(read, "missing", required=True)


def optional(read: Callable[[Any], Any]) -> fields.Field[Any]:
    """A field of `/v1` that may be absent, or null."""
    return take(read, "missing", allow_none=True)


def fault(kind: str) -> ValidationError:
    """A fault of a known type."""
    return ValidationError(MESSAGES[kind])


@takes(type="string")
def _text(value: object) -> str:
    if not isinstance(value, str):
        raise fault("string_type")
    return value


@takes(type="string", maxLength=MAX_NAME_CHARACTERS)
def name_text(value: object) -> str:
    """A string that may stand in a log line, a header or a table."""
    name = _text(value)
    if len(name) > MAX_NAME_CHARACTERS:
        raise fault("string_too_long")
    if not name.isprintable():
        raise fault("string_pattern_mismatch")
    return name


@takes(type="string", minLength=1, maxLength=MAX_NAME_CHARACTERS)
def run_id_text(value: object) -> str:
    """A run's id: a name that is not empty."""
    if value == "":
        raise fault("string_too_short")
    return name_text(value)


@takes(type="number", minimum=0, maximum=MAX_TEMPERATURE)
def _temperature(value: object) -> float:
    """A JSON number, no string: a client that sends "0.5" has a bug of its own."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fault("float_type")
    if value < 0:
        raise fault("greater_than_equal")
    if value > MAX_TEMPERATURE:
        raise fault("less_than_equal")
    return float(value)


@takes(
    type="array",
    minItems=1,
    maxItems=MAX_MESSAGES,
    items={
        "type": "object",
        "properties": {"role": {"type": "string"}, "content": {"type": "string"}},
        "required": ["role", "content"],
    },
)
def _messages(value: object) -> list[dict[str, str]]:
    """A chat's messages, each cut down to role and content; one loop, as nested schemas cost 13 times it."""
    if not isinstance(value, list):
        raise fault("list_type")
    if not value:
        raise fault("too_short")
    if len(value) > MAX_MESSAGES:
        raise fault("too_long")
    faults = ((index, found) for index, message in enumerate(value) if (found := _message_faults(message)))
    if first_faults := dict(islice(faults, MAX_FAULTY_MESSAGES)):
        raise ValidationError(first_faults)
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _message_faults(message: object) -> dict[str, list[str]] | list[str]:
    """What is wrong with one message, by field; empty if nothing is."""
    if not isinstance(message, dict):
        return [MESSAGES["model_attributes_type"]]
    faults = {}
    for key in ("role", "content"):
        if key not in message:
            faults[key] = [MESSAGES["missing"]]
        elif not isinstance(message[key], str):
            faults[key] = [MESSAGES["string_type"]]
    return faults


class AgentSchema(Schema):
    """What agents send: unknown fields are ignored."""

    class Meta:
        """Marshmallow's options."""

        unknown = EXCLUDE


class InferenceSchema(AgentSchema):
    """`POST /agents/inference`."""

    run_id = take(run_id_text, "string_type", required=True)
    messages = take(_messages, "list_type", required=True)
    model = take(name_text, "string_type", load_default=None, allow_none=True)
    temperature = take(_temperature, "float_type", load_default=None, allow_none=True)


class EmbeddingSchema(AgentSchema):
    """`POST /agents/embedding`."""

    run_id = take(run_id_text, "string_type", required=True)
    input = take(_text, "string_type", required=True)


class UsageSchema(AgentSchema):
    """The query of `GET /agents/usage`."""

    run_id = take(run_id_text, "string_type", required=True)
