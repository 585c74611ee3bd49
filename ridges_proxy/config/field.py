"""What one setting is, and what is said when settings do not fit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

REQUIRED = object()
"""The default of a setting that has none."""


class SettingsError(Exception):
    """The settings do not fit; `problems` names every one that does not."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(["The settings have problems:", *(f"  {line}" for line in problems)]))
        self.problems = problems


def setting(name: str, parse: Callable[[str], Any], default: Any, text: str, *, secret: bool = False) -> Any:  # noqa: ANN401 - a field of any type
    """Describe one setting: its name, how its text is read, its default as text, and what it does."""
    return dataclasses.field(
        repr=not secret, metadata={"name": name, "parse": parse, "default": default, "text": text}
    )
