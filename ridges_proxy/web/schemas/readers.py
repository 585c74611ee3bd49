"""How JSON values are read: each reader returns what it is given, or raises a ValidationError that says why.

Strict: no text that looks like a number, no fraction that could be rounded, no boolean that counts as 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marshmallow import ValidationError

from ridges_proxy.web.schemas.shapes import shape_of, takes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Reader = Callable[[Any], Any]

MAX_SCALAR_CHARACTERS = 256


def integer(least: int, most: int) -> Reader:
    """A whole number in bounds."""

    @takes(type="integer", minimum=least, maximum=most)
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValidationError(f"Input should be a whole number from {least} to {most}")
        return value

    return read


def number(least: float, most: float) -> Reader:
    """A number in bounds, as it came."""

    @takes(type="number", minimum=least, maximum=most)
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValidationError(f"Input should be a number from {least:g} to {most:g}")
        return value

    return read


@takes(type="boolean")
def boolean(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValidationError("Input should be true or false")
    return value


def text(most_characters: int) -> Reader:
    """A string up to a length."""

    @takes(type="string", maxLength=most_characters)
    def read(value: object) -> str:
        if not isinstance(value, str) or len(value) > most_characters:
            raise ValidationError(f"Input should be a string of at most {most_characters} characters")
        return value

    return read


def choice(*words: str) -> Reader:
    """One of some words."""

    @takes(enum=list(words))
    def read(value: object) -> object:
        if value not in words:
            raise ValidationError(f"Input should be one of {', '.join(words)}")
        return value

    return read


def constant(allowed: object) -> Reader:
    """The only value that is allowed."""

    @takes(enum=[allowed])
    def read(value: object) -> object:
        if value != allowed or type(value) is not type(allowed):
            raise ValidationError(f"Input may only be {allowed!r} here".replace("False", "false"))
        return value

    return read


@takes(type="object")
def json_object(value: object) -> dict[str, Any]:
    """Any JSON object."""
    if not isinstance(value, dict):
        raise ValidationError("Input should be an object")
    return value


def json_list(most: int) -> Reader:
    """A list of objects, up to a length; not an empty one, which engines refuse."""
    return list_of(json_object, most)


def text_or(read_other: Reader) -> Reader:
    """A word, or what the other reader takes."""
    read_text = text(MAX_SCALAR_CHARACTERS)

    @takes(anyOf=[shape_of(read_text), shape_of(read_other)])
    def read(value: object) -> object:
        return read_text(value) if isinstance(value, str) else read_other(value)

    return read


def texts_or_text(most: int, most_characters: int) -> Reader:
    """A string, or a list of strings, each up to a length."""
    read_text = text(most_characters)
    read_texts = list_of(read_text, most)

    @takes(anyOf=[shape_of(read_text), shape_of(read_texts)])
    def read(value: object) -> object:
        return read_text(value) if isinstance(value, str) else read_texts(value)

    return read


def integers(most: int, least_value: int, most_value: int) -> Reader:
    """A list of whole numbers in bounds, up to a length."""
    return list_of(integer(least_value, most_value), most)


def list_of(read_item: Reader, most: int) -> Reader:
    """A list of 1 to so many items, each read by the reader."""

    @takes(type="array", items=shape_of(read_item), minItems=1, maxItems=most)
    def read(value: object) -> object:
        return each(value, most, read_item)

    return read


def numbers_by_name(most: int, least_value: float, most_value: float) -> Reader:
    """An object whose values are numbers in bounds, up to a size."""
    read_value = number(least_value, most_value)

    @takes(type="object", additionalProperties=shape_of(read_value), maxProperties=most)
    def read(value: object) -> dict[str, float]:
        entries = json_object(value)
        if len(entries) > most:
            raise ValidationError(f"Input should have at most {most} entries")
        return {name: _at(name, read_value, entry) for name, entry in entries.items()}

    return read


def scalars(names: frozenset[str]) -> Reader:
    """An object of some names, with short and simple values."""
    return _object_of(names, _scalar)


def switches(names: frozenset[str]) -> Reader:
    """An object of some names, each true, false or null."""
    return _object_of(names, _switch)


def _object_of(names: frozenset[str], read_entry: Reader) -> Reader:
    shapes = {name: shape_of(read_entry) for name in sorted(names)}

    @takes(type="object", properties=shapes, additionalProperties=False)
    def read(value: object) -> dict[str, Any]:
        return {
            name: _at(name, read_entry if name in names else _unlisted, entry)
            for name, entry in json_object(value).items()
        }

    return read


@takes(type=["boolean", "null"])
def _switch(value: object) -> bool | None:
    return None if value is None else boolean(value)


@takes(type=["string", "number", "boolean", "null"], maxLength=MAX_SCALAR_CHARACTERS)
def _scalar(value: object) -> object:
    simple = value is None or isinstance(value, bool | int | float)
    if not simple and not (isinstance(value, str) and len(value) <= MAX_SCALAR_CHARACTERS):
        raise ValidationError("Input should be a word, a number, true or false")
    return value


def _unlisted(_value: object) -> object:
    raise ValidationError("Extra inputs are not permitted")


def each(value: object, most: int, read: Reader) -> Sequence[object]:
    """A list of 1 to so many items, each read."""
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise ValidationError(f"Input should be a list of 1 to {most} items")
    return [_at(index, read, item) for index, item in enumerate(value)]


def _at(place: int | str, read: Reader, value: object) -> Any:  # noqa: ANN401 - whatever it reads
    """Read a part; what is wrong with it is told with its place."""
    try:
        return read(value)
    except ValidationError as error:
        raise ValidationError({place: error.messages}) from None
