"""Read settings from the environment, from `.env` and from systemd's credentials. Nothing else does."""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ridges_proxy.config import dotenv_file
from ridges_proxy.config.cross_checks import contradictions
from ridges_proxy.config.field import REQUIRED, SettingsError
from ridges_proxy.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

AnySettings = TypeVar("AnySettings", bound="DataclassInstance")


def load_settings(kind: type[AnySettings], environ: Mapping[str, str]) -> AnySettings:
    """Read and check all settings of a kind; raises SettingsError naming every problem."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in dataclasses.fields(kind):
        name, default = field.metadata["name"], field.metadata["default"]
        raw = environ.get(name, "").strip()
        if not raw and default is REQUIRED:
            problems.append(f"{name} is required. {field.metadata['text']}")
            continue
        try:
            values[field.name] = field.metadata["parse"](raw or default)
        except ValueError as error:
            problems.append(f"{name} {error}")
    problems += contradictions(values)
    if problems:
        raise SettingsError(problems)
    return kind(**values)


def metrics_folder() -> Path | None:
    """Where the workers of a server share their metrics, which its master makes; None outside of it."""
    named = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(named) if named else None


def read_environment(folder: Path | None = None) -> dict[str, str]:
    """The process's environment over the folder's `.env` (the current folder's, if none is given).

    What systemd hands over (LoadCredential=), a file for each setting, goes over both. Raises SettingsError
    for a file that is there and cannot be read, and for a `.env` with lines that set nothing.
    """
    return {**_read_file(folder), **os.environ, **_read_credentials()}


def _read_credentials() -> dict[str, str]:
    handed_over = os.environ.get("CREDENTIALS_DIRECTORY")
    if not handed_over:
        return {}
    names = (field.metadata["name"] for field in dataclasses.fields(Settings))
    files = {name: Path(handed_over) / name for name in names}
    try:
        return {name: path.read_text("utf-8") for name, path in files.items() if path.exists()}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"CREDENTIALS_DIRECTORY has a file that cannot be read: {error}"]) from None


def unknown_names(folder: Path | None = None) -> list[str]:
    """Warnings for names in `.env` that no setting has: a misspelt cap must not pass in silence."""
    known = [field.metadata["name"] for field in dataclasses.fields(Settings)]
    warnings = []
    for name in _read_file(folder):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            warnings.append(f"{name} in .env is no setting of this service{hint}")
    return warnings


def _read_file(folder: Path | None) -> dict[str, str]:
    values, problems = dotenv_file.read((folder or Path.cwd()) / ".env")
    if problems:
        raise SettingsError(problems)
    return values
