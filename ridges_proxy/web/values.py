"""How JSON values are read: each reader returns what it is given, or raises a ValidationError that says why.

Strict: no text that looks like a number, no fraction that could be rounded, no boolean that counts as 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from marshmallow import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Reader = Callable[[Any], Any]

MAX_SCALAR_CHARACTERS = 256


def whole(least: int, most: int) -> Reader:
    """A whole number in bounds."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValidationError(f"Input should be a whole number from {least} to {most}")
        return value

    return read


def number(least: float, most: float) -> Reader:
    """A number in bounds, as it came."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValidationError(f"Input should be a number from {least:g} to {most:g}")
        return value

    return read


def boolean(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValidationError("Input should be true or false")
    return value


def text(most_characters: int) -> Reader:
    """A string up to a length."""

    def read(value: object) -> str:
        if not isinstance(value, str) or len(value) > most_characters:
            raise ValidationError(f"Input should be a string of at most {most_characters} characters")
        return value

    return read


def choice(*words: str) -> Reader:
    """One of some words."""

    def read(value: object) -> object:
        if value not in words:
            raise ValidationError(f"Input should be one of {', '.join(words)}")
        return value

    return read


def constant(allowed: object) -> Reader:
    """The only value that is allowed."""

    def read(value: object) -> object:
        if value != allowed or type(value) is not type(allowed):
            raise ValidationError(f"Input may only be {allowed!r} here".replace("False", "false"))
        return value

    return read


def json_object(value: object) -> dict[str, Any]:
    """Any JSON object."""
    if not isinstance(value, dict):
        raise ValidationError("Input should be an object")
    return value


def json_list(most: int) -> Reader:
    """A list of objects, up to a length; not an empty one, which engines refuse."""

    def read(value: object) -> object:
        return each(value, most, json_object)

    return read


def text_or(read_other: Reader) -> Reader:
    """A word, or what the other reader takes."""
    read_text = text(MAX_SCALAR_CHARACTERS)
    return lambda value: read_text(value) if isinstance(value, str) else read_other(value)


def texts_or_text(most: int, most_characters: int) -> Reader:
    """A string, or a list of strings, each up to a length."""
    read_text = text(most_characters)
    return lambda value: read_text(value) if isinstance(value, str) else each(value, most, read_text)


def wholes(most: int, least_value: int, most_value: int) -> Reader:
    """A list of whole numbers in bounds, up to a length."""
    return lambda value: each(value, most, whole(least_value, most_value))


def numbers_by_name(most: int, least_value: float, most_value: float) -> Reader:
    """An object whose values are numbers in bounds, up to a size."""
    read_value = number(least_value, most_value)

    def read(value: object) -> dict[str, float]:
        entries = json_object(value)
        if len(entries) > most:
            raise ValidationError(f"Input should have at most {most} entries")
        return {name: _at(name, read_value, entry) for name, entry in entries.items()}

    return read


def scalars(names: frozenset[str]) -> Reader:
    """An object of some names, with short and simple values."""
    return lambda value: _named(value, names, _scalar)


def switches(names: frozenset[str]) -> Reader:
    """An object of some names, each true, false or null."""
    return lambda value: _named(value, names, lambda entry: None if entry is None else boolean(entry))


def _named(value: object, names: frozenset[str], read: Reader) -> dict[str, Any]:
    return {
        name: _at(name, read if name in names else _unlisted, entry)
        for name, entry in json_object(value).items()
    }


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
