"""Reader of settings, from the environment, `.env` and systemd's credentials. The only reader of settings."""

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
    """Read and check all settings of a class. Raises SettingsError with all problems."""
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
    """Return the folder where workers share their metrics, None outside a server. The master creates it."""
    named = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(named) if named else None


def read_environment(folder: Path | None = None) -> dict[str, str]:
    """Return the values of the environment and of the `.env` in a folder (default: the current folder).

    The environment takes precedence over `.env`. Credentials of systemd (LoadCredential=), a file for each
    setting, take precedence over both. Raises SettingsError for a file that cannot be read, and for a `.env`
    with lines that set nothing.
    """
    return {**_read_file(folder), **os.environ, **_read_credentials()}


def _read_credentials() -> dict[str, str]:
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if not credentials:
        return {}
    names = (field.metadata["name"] for field in dataclasses.fields(Settings))
    files = {name: Path(credentials) / name for name in names}
    try:
        return {name: path.read_text("utf-8") for name, path in files.items() if path.exists()}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"CREDENTIALS_DIRECTORY has a file that cannot be read: {error}"]) from None


def unknown_names(folder: Path | None = None) -> list[str]:
    """Return a warning for each unknown name in `.env`: it may be a misspelt setting."""
    known = [field.metadata["name"] for field in dataclasses.fields(Settings)]
    warnings = []
    for name in _read_file(folder):
        if name not in known:
            similar = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            warnings.append(f"{name} in .env is not a setting of this service{hint}")
    return warnings


def _read_file(folder: Path | None) -> dict[str, str]:
    values, problems = dotenv_file.read((folder or Path.cwd()) / ".env")
    if problems:
        raise SettingsError(problems)
    return values
