"""Description of one setting, and the error for invalid settings."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

REQUIRED = object()
"""Default of a setting that must be set."""


class SettingsError(Exception):
    """Invalid settings. `problems` has one line for each problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(["The settings have problems:", *(f"  {line}" for line in problems)]))
        self.problems = problems


class InvalidSettingError(Exception):
    """A setting that was read is missing or invalid. `name` is its name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is missing or not valid")
        self.name = name


class ManyProblemsError(ValueError):
    """A value with several problems. Each text follows the setting's name."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def setting(name: str, parse: Callable[[str], Any], default: Any, text: str, *, secret: bool = False) -> Any:  # noqa: ANN401 - a field of any type
    """Describe one setting by its name, its parser, its default as text, and its description."""
    return dataclasses.field(
        repr=not secret, metadata={"name": name, "parse": parse, "default": default, "text": text}
    )
