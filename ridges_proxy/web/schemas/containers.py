"""Types of JSON values that contain other values: lists, objects and unions."""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Any, Unpack

from marshmallow import ValidationError, missing

from ridges_proxy.web.schemas.field_table import Treatment
from ridges_proxy.web.schemas.values import Options, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ridges_proxy.web.schemas.field_table import Place, Read
    from ridges_proxy.web.schemas.values import Shape


def read_each(entries: Iterable[tuple[Any, Read, Any]], max_errors: int = sys.maxsize) -> dict[Any, Any]:
    """Read each value. An entry is a place (a name or an index), the function that reads, and the value.

    Returns the results by place, without those that are `missing`. Raises one ValidationError with the
    errors by place. It stops after `max_errors` errors, so that a faulty body costs little time.
    """
    results: dict[Any, Any] = {}
    errors: dict[Any, Any] = {}
    for place, read, value in entries:
        try:
            result = read(value)
        except ValidationError as error:
            errors[place] = error.messages
            if len(errors) >= max_errors:
                break
        else:
            if result is not missing:
                results[place] = result
    if errors:
        raise ValidationError(errors)
    return results


class List(Value):
    """A list of values of one type, with bounds of its length."""

    max_errors = 1
    """Number of faulty items that the error names."""

    def __init__(
        self, item: Value, min_items: int = 1, max_items: int | None = None, **options: Unpack[Options]
    ) -> None:
        shape: Shape = {"type": "array", "items": item.reference}
        if min_items:
            shape["minItems"] = min_items
        if max_items is not None:
            shape["maxItems"] = max_items
        super().__init__(shape, **options)
        self.item, self.min_items = item, min_items
        self.max_items = sys.maxsize if max_items is None else max_items

    def read(self, value: Any) -> list[Any]:  # noqa: ANN401 - any JSON
        """A new list of the items read, without those that are `missing`: they are dropped."""
        self.check_list(value)
        read = self.item.read
        results, errors = [], {}
        for index, item in enumerate(value):
            try:
                result = read(item)
            except ValidationError as error:
                errors[index] = error.messages
                if len(errors) >= self.max_errors:
                    break
            else:
                if result is not missing:
                    results.append(result)
        if errors:
            raise ValidationError(errors)
        return results

    def check_list(self, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Raise ValidationError if the value is not a list, or too short or too long."""
        if not isinstance(value, list) or not self.min_items <= len(value) <= self.max_items:
            bounds = (
                f"{self.min_items} to {self.max_items}" if self.min_items else f"at most {self.max_items}"
            )
            raise ValidationError(f"Input should be a list of {bounds} items")


class Object(Value):
    """An object with named properties. A property that is null counts as absent, but stays in the result.

    The place decides what happens to other properties.
    """

    max_errors = 1
    """Number of faulty properties that the error names, besides the required ones that are missing."""
    not_object_message = "Input should be an object"

    def __init__(self, properties: Mapping[str, Value], place: Place, **options: Unpack[Options]) -> None:
        required = [name for name, value in properties.items() if value.required]
        shape: Shape = {"type": "object"}
        if required:
            shape["required"] = required
        shape["properties"] = {name: _property_schema(value) for name, value in properties.items()}
        super().__init__(place.described(shape), **options)
        self.place = place
        self.properties = dict(properties)
        self._required = required

    def read(self, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """A new object of the properties read, in the order in which they came."""
        if not isinstance(value, dict):
            raise ValidationError(self.not_object_message)
        absent = [name for name in self._required if value.get(name) is None]
        results, errors = {}, {}
        for name in self._names_in(value, absent):
            entry, property_type = value.get(name, missing), self.properties.get(name)
            try:
                if property_type is None:
                    if (other := self.place.reader(name)(entry)) is not missing:
                        results[name] = other
                elif entry is None or entry is missing:
                    results[name] = property_type.deserialize(entry)
                else:
                    results[name] = property_type.read(entry)
            except ValidationError as error:
                errors[name] = error.messages
                if len(errors) >= self.max_errors + len(absent):
                    break
        if errors:
            raise ValidationError(errors)
        return results

    def _names_in(self, value: dict[str, Any], absent: list[str]) -> Iterable[str]:
        """The names to read: the given ones, and the required ones that are absent or null."""
        if self.place.others is Treatment.DROPPED:
            return [name for name in self.properties if name in value or name in absent]
        return chain(absent, value) if absent else value


def _property_schema(value: Value) -> Shape:
    """The schema of a property, with null if the property may be null."""
    shape = value.reference
    if not value.allow_none or "null" in shape.get("type", ()):
        return shape
    if "enum" in shape:
        return {"enum": [*shape["enum"], None]}
    return {"anyOf": [shape, {"type": "null"}]}


class ObjectOf(Value):
    """An object of any names, with a maximum size, whose values have one type."""

    def __init__(self, entry: Value, max_entries: int, **options: Unpack[Options]) -> None:
        super().__init__(
            {"type": "object", "additionalProperties": entry.reference, "maxProperties": max_entries},
            **options,
        )
        self.entry, self.max_entries = entry, max_entries

    def read(self, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """A new object of the entries read."""
        if not isinstance(value, dict):
            raise ValidationError("Input should be an object")
        if len(value) > self.max_entries:
            raise ValidationError(f"Input should have at most {self.max_entries} entries")
        read = self.entry.read
        return read_each([(name, read, entry) for name, entry in value.items()], max_errors=1)


class StringOr(Value):
    """A string, or a value of another type."""

    def __init__(self, string: Value, other: Value, **options: Unpack[Options]) -> None:
        super().__init__({"anyOf": [string.reference, other.reference]}, **options)
        self.string, self.other = string, other

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """As the type that fits reads it."""
        return self.string.read(value) if isinstance(value, str) else self.other.read(value)


class OneMessage(Value):
    """A type whose errors are all reported as one message, without a place inside the value."""

    def __init__(self, inner: Value, message: str, **options: Unpack[Options]) -> None:
        super().__init__(inner.json_schema, **options)
        self.inner, self.message = inner, message

    def read(self, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """As the inner type reads it."""
        try:
            return self.inner.read(value)
        except ValidationError:
            raise ValidationError(self.message) from None
