"""Types of a chat's tools. The name of a function is limited, because templates write it many times."""

from __future__ import annotations

import re
from typing import Any, Unpack

from marshmallow import ValidationError

from ridges_proxy.web.schemas.field_table import TOOL, TOOL_FUNCTION
from ridges_proxy.web.schemas.values import AnyObject, Options, Value

MAX_TOOLS = 512
"""Of one request."""

MAX_FUNCTION_NAME_CHARACTERS = 64
"""The limit of OpenAI's API."""

FUNCTION_NAME_MESSAGE = (
    f"Input should be a name of 1 to {MAX_FUNCTION_NAME_CHARACTERS} letters (a-z, A-Z), digits, _ and -"
)

_FUNCTION_NAME = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_FUNCTION_NAME_CHARACTERS}}}")


class FunctionName(Value):
    """The name of a function."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__({"type": "string", "pattern": f"^{_FUNCTION_NAME.pattern}$"}, **options)

    def read(self, value: Any) -> str:  # noqa: ANN401 - any JSON
        """A name, unchanged."""
        if not isinstance(value, str) or not _FUNCTION_NAME.fullmatch(value):
            raise ValidationError(FUNCTION_NAME_MESSAGE)
        return value


_NAME = FunctionName()


class Tool(AnyObject):
    """A tool, or the choice of one: any object, in which the name of a function is checked."""

    def read(self, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """The object without the fields that are dropped."""
        tool = TOOL.kept(super().read(value))
        _check_name(tool)
        if isinstance(function := tool.get("function"), dict):
            try:
                _check_name(function)
            except ValidationError as error:
                raise ValidationError({"function": error.messages}) from None
            if (kept := TOOL_FUNCTION.kept(function)) is not function:
                tool = {**tool, "function": kept}
        return tool


def _check_name(named: dict[str, Any]) -> None:
    """Raise ValidationError for a name that is no name of a function. It may be absent or null."""
    if named.get("name") is None:
        return
    try:
        _NAME.read(named["name"])
    except ValidationError as error:
        raise ValidationError({"name": error.messages}) from None
