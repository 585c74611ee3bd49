"""Texts and types of validation problems, and their conversion from marshmallow's form."""

from __future__ import annotations

from typing import Any

from ridges_proxy.errors import Problem

MAX_NAME_CHARACTERS = 256
MAX_TEMPERATURE = 2.0
"""The maximum of OpenAI's API. The upstream refuses a higher one, but only after the agent has waited."""

MAX_MESSAGES = 10_000
"""The longest known run of an agent has 300 steps. A larger list would block the other requests."""

MAX_FAULTY_MESSAGES = 100
"""Number of faulty messages that an answer names. All of two million took 12 seconds and 285 MB."""

MAX_FIELDS = 100
"""Above the number of fields of every schema. Naming half a million unknown fields took 3 seconds."""

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
    "too_short": "The list of messages is empty: send at least 1 message",
    "too_long": f"List should have at most {MAX_MESSAGES} items after validation",
    "model_attributes_type": "Input should be a valid dictionary or object to extract fields from",
    "json_invalid": "JSON decode error",
    "content_type": "Content-Type should be application/json",
    "int_parsing": "Input should be a valid integer",
    "value_error": "Input is not one of the values allowed here",
    "extra_forbidden": "Not accepted here; see /docs for the accepted fields",
    "too_many_fields": f"Input should have at most {MAX_FIELDS} fields",
}
"""The text of each type of problem. Agents in use depend on these types and texts."""

RUN_MISSING = {"required": MESSAGES["missing_run"]}
"""Texts of the field `run_id` on `/v1`, where the run has several places."""

_TYPES = {message: kind for kind, message in MESSAGES.items()}


def not_accepted(reason: str) -> str:
    """The text for a field that is refused for a known reason."""
    return f"Not accepted here: {reason}; see /docs for the accepted fields"


def problem(loc: list[str | int], kind: str) -> Problem:
    """A problem of a known type at a place."""
    return Problem(loc, MESSAGES[kind], kind)


def problems_of(loc: list[str | int], messages: Any) -> list[Problem]:  # noqa: ANN401 - marshmallow's nested form
    """A flat list of marshmallow's messages, which are nested by field and index."""
    if isinstance(messages, dict):
        return [found for key, inner in messages.items() for found in problems_of([*loc, key], inner)]
    return [Problem(loc, message, _TYPES.get(message, "value_error")) for message in messages]
