"""Types of JSON values. Each type reads a value and describes itself as JSON Schema.

The types are marshmallow fields. The same objects serve as fields of a schema, as properties of a nested
object and as items of a list. The OpenAPI document is made from their `json_schema`.

The types are strict: "1" and true are not numbers, and 1.0 is not an integer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from marshmallow import ValidationError, fields, missing

from ridges_proxy.web.schemas.problems import MAX_NAME_CHARACTERS, MESSAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shape = dict[str, Any]
    """A JSON Schema."""

MAX_SCALAR_CHARACTERS = 256


class Options(TypedDict, total=False):
    """Options of a type where it is used as a field or as a property."""

    required: bool
    allow_none: bool
    """Whether null is allowed. The default: yes, unless the field is required. Null then means absent."""
    load_default: Any
    data_key: str
    error_messages: dict[str, Any]
    """Other texts for `required` and `null`."""


class Value(fields.Field[Any]):
    """Base class of the types.

    Marshmallow's validators and hooks of a field do not run: `read` makes all checks of a value.
    """

    component: str | None = None
    """Name of the type in the OpenAPI document's components, if the document refers to it by name."""

    default_error_messages = {"required": MESSAGES["missing"], "null": MESSAGES["missing"]}  # noqa: RUF012 - marshmallow's form

    def __init__(self, json_schema: Shape, **options: Unpack[Options]) -> None:
        options.setdefault("allow_none", not options.get("required", False))
        super().__init__(metadata=json_schema, **options)
        self.json_schema = json_schema

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.json_schema})"

    @property
    def reference(self) -> Shape:
        """The JSON Schema to use inside another one."""
        return {"$ref": f"#/components/schemas/{self.component}"} if self.component else self.json_schema

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """Return the value, converted if the type converts. Raises ValidationError if it does not fit."""
        raise NotImplementedError

    def deserialize(
        self,
        value: Any,  # noqa: ANN401 - any JSON
        attr: str | None = None,
        data: Mapping[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401 - marshmallow's
    ) -> Any:  # noqa: ANN401 - as `read`
        """Read the value of a field, which may be null or absent."""
        if value is None or value is missing:
            return super().deserialize(value, attr, data, **kwargs)
        return self.read(value)


class String(Value):
    """A string of any length."""

    def __init__(
        self, *, min_length: int = 0, max_length: int | None = None, **options: Unpack[Options]
    ) -> None:
        shape: Shape = {"type": "string"}
        if min_length:
            shape["minLength"] = min_length
        if max_length is not None:
            shape["maxLength"] = max_length
        super().__init__(shape, **options)
        self.min_length = min_length

    def read(self, value: Any) -> str:  # noqa: ANN401 - any JSON
        """A string, unchanged."""
        if not isinstance(value, str):
            raise ValidationError(MESSAGES["string_type"])
        if len(value) < self.min_length:
            raise ValidationError(MESSAGES["string_too_short"])
        return value


class Name(String):
    """A string that is safe in a log line, a header or a table: short and printable."""

    def __init__(self, *, min_length: int = 0, **options: Unpack[Options]) -> None:
        super().__init__(min_length=min_length, max_length=MAX_NAME_CHARACTERS, **options)

    def read(self, value: Any) -> str:  # noqa: ANN401 - any JSON
        """A name, unchanged."""
        name = super().read(value)
        if len(name) > MAX_NAME_CHARACTERS:
            raise ValidationError(MESSAGES["string_too_long"])
        if not name.isprintable():
            raise ValidationError(MESSAGES["string_pattern_mismatch"])
        return name


class RunId(Name):
    """A run's id: a name that is not empty."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__(min_length=1, **options)


class Text(Value):
    """A string with a maximum length."""

    def __init__(self, max_length: int, **options: Unpack[Options]) -> None:
        super().__init__({"type": "string", "maxLength": max_length}, **options)
        self.max_length = max_length

    def read(self, value: Any) -> str:  # noqa: ANN401 - any JSON
        """A string, unchanged."""
        if not isinstance(value, str) or len(value) > self.max_length:
            raise ValidationError(f"Input should be a string of at most {self.max_length} characters")
        return value


class Integer(Value):
    """An integer between two bounds, both included."""

    def __init__(self, minimum: int, maximum: int, **options: Unpack[Options]) -> None:
        super().__init__({"type": "integer", "minimum": minimum, "maximum": maximum}, **options)
        self.minimum, self.maximum = minimum, maximum

    def read(self, value: Any) -> int:  # noqa: ANN401 - any JSON
        """An integer, unchanged."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.minimum <= value <= self.maximum:
            raise ValidationError(f"Input should be a whole number from {self.minimum} to {self.maximum}")
        return value


class Number(Value):
    """A number between two bounds, both included."""

    def __init__(self, minimum: float, maximum: float, **options: Unpack[Options]) -> None:
        super().__init__({"type": "number", "minimum": minimum, "maximum": maximum}, **options)
        self.minimum, self.maximum = minimum, maximum

    def read(self, value: Any) -> float:  # noqa: ANN401 - any JSON
        """A number, unchanged: an integer stays an integer."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.minimum <= value <= self.maximum:
            raise ValidationError(f"Input should be a number from {self.minimum:g} to {self.maximum:g}")
        return value  # type: ignore[no-any-return] # checked above


class Boolean(Value):
    """True or false."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__({"type": "boolean"}, **options)

    def read(self, value: Any) -> bool:  # noqa: ANN401 - any JSON
        """A boolean, unchanged."""
        if not isinstance(value, bool):
            raise ValidationError("Input should be true or false")
        return value


class Choice(Value):
    """One of several strings."""

    def __init__(self, *choices: str, **options: Unpack[Options]) -> None:
        super().__init__({"enum": list(choices)}, **options)
        self.choices = choices

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """One of the strings, unchanged."""
        if value not in self.choices:
            raise ValidationError(f"Input should be one of {', '.join(self.choices)}")
        return value


class Constant(Value):
    """A field that has only one allowed value."""

    def __init__(self, allowed: object, **options: Unpack[Options]) -> None:
        super().__init__({"enum": [allowed]}, **options)
        self.allowed = allowed

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """The allowed value."""
        if value != self.allowed or type(value) is not type(self.allowed):
            raise ValidationError(f"Input may only be {self.allowed!r} here".replace("False", "false"))
        return value


class Scalar(Value):
    """A short string, a number, a boolean or null."""

    def __init__(self) -> None:
        types = ["string", "number", "boolean", "null"]
        super().__init__({"type": types, "maxLength": MAX_SCALAR_CHARACTERS})

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """A scalar, unchanged."""
        is_short = isinstance(value, str) and len(value) <= MAX_SCALAR_CHARACTERS
        if not is_short and not isinstance(value, bool | int | float):
            raise ValidationError("Input should be a word, a number, true or false")
        return value


class Switch(Boolean):
    """True, false or null."""

    def __init__(self) -> None:
        super().__init__()
        self.json_schema = self.metadata = {"type": ["boolean", "null"]}


class AnyObject(Value):
    """A JSON object with any content."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__({"type": "object"}, **options)

    def read(self, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """An object, unchanged."""
        if not isinstance(value, dict):
            raise ValidationError("Input should be an object")
        return value


class Inert(Value):
    """A field that is accepted and not used: it changes neither the answer nor the cost."""

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__({"description": "Accepted, and not used"}, **options)

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """The value, unchanged."""
        return value
