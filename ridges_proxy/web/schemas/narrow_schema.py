"""A schema of many optional fields, for requests that have a few of them."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, missing

MOST_KINDS = 100
"""Sets of fields that are remembered; clients have a few of them. One that nobody has seen is read by all."""


class NarrowSchema(Schema):
    """Reads the fields that a request has, and those that it must have, or that have a default.

    Marshmallow asks every field whether it is there: 45 of them took 70 µs.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - passed on as they come
        super().__init__(**options)
        self._narrowed: dict[frozenset[str], NarrowSchema] = {}
        self._always = frozenset(
            name for name, field in self.fields.items() if field.required or field.load_default is not missing
        )

    def load(self, data: Any, **options: Any) -> Any:  # noqa: ANN401 - the base class's
        """Load as the base class does."""
        if self.only is not None or not isinstance(data, dict):
            return super().load(data, **options)
        names = self._always | (self.fields.keys() & data.keys())
        narrowed = self._narrowed.get(names)
        if narrowed is None:
            if len(self._narrowed) >= MOST_KINDS:
                return super().load(data, **options)
            narrowed = self._narrowed[names] = type(self)(only=names)
        return narrowed.load(data, **options)
