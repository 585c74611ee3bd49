"""Reader of settings: the environment, the settings file and the credentials. The only reader of settings."""

from __future__ import annotations

import dataclasses
import difflib
import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ridges_proxy.config import dotenv_file
from ridges_proxy.config.cross_checks import contradictions
from ridges_proxy.config.field import REQUIRED, InvalidSettingError, ManyProblemsError, SettingsError
from ridges_proxy.config.file_content import read_text
from ridges_proxy.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

SETTINGS_FILE = "SETTINGS_FILE"
"""Environment variable with the path of the settings file."""

CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
"""Environment variable with the path of a folder that has a file for each setting. systemd has this name."""

DEFAULT_FILE = ".env"

AnySettings = TypeVar("AnySettings", bound="DataclassInstance")


def load_settings(kind: type[AnySettings], environ: Mapping[str, str]) -> AnySettings:
    """Read and check all settings of a class. Raises SettingsError with all problems."""
    values, problems = _read_values(kind, environ)
    if problems:
        raise SettingsError(problems)
    return kind(**values)


def load_valid_settings(kind: type[AnySettings], environ: Mapping[str, str]) -> tuple[AnySettings, list[str]]:
    """Read the settings of a class. Returns those that are valid, and all problems.

    To read one of the others raises InvalidSettingError.
    """
    values, problems = _read_values(kind, environ)
    names = {field.name: field.metadata["name"] for field in dataclasses.fields(kind)}

    def refuse(_settings: AnySettings, name: str) -> None:
        raise InvalidSettingError(names[name]) if name in names else AttributeError(name)

    settings: AnySettings = object.__new__(type(kind.__name__, (kind,), {"__getattr__": refuse}))
    for name, value in values.items():
        object.__setattr__(settings, name, value)  # the class is frozen
    return settings, problems


def _read_values(kind: type[AnySettings], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the valid settings by the name of their field, and all problems."""
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
        except ManyProblemsError as error:
            problems += [f"{name} {problem}" for problem in error.problems]
        except ValueError as error:
            problems.append(f"{name} {error}")
    problems += contradictions(values)
    return values, problems


def metrics_folder() -> Path | None:
    """Return the folder where workers share their metrics, None outside a server. The master creates it."""
    named = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(named) if named else None


def settings_file() -> str:
    """Return the path of the settings file, as messages name it. It is in the current folder by default."""
    return os.environ.get(SETTINGS_FILE) or DEFAULT_FILE


def read_environment(folder: Path | None = None) -> dict[str, str]:
    """Return the values of the environment and of the settings file, by default `.env` in a folder.

    The folder is by default the current one. The environment takes precedence over the file. Files in
    CREDENTIALS_DIRECTORY take precedence over both. Raises SettingsError for a file that cannot be read, for
    a settings file or folder that is named but missing, and for lines that set nothing.
    """
    return {**_read_file(folder), **os.environ, **_read_credentials()}


def unknown_names(folder: Path | None = None) -> list[str]:
    """Return a warning for each unknown name in the settings file and in CREDENTIALS_DIRECTORY.

    It may be a misspelt setting. Files whose name does not look like a setting's cause no warning.
    """
    warnings = [_unknown(name, settings_file()) for name in _read_file(folder) if name not in _known_names()]
    credentials = _credentials_folder()
    try:
        files = [] if credentials is None else sorted(path.name for path in credentials.iterdir())
    except PermissionError:  # the service needs only to open the files whose names it knows
        files = []
    return warnings + [
        _unknown(name, CREDENTIALS_DIRECTORY)
        for name in files
        if re.fullmatch("[A-Z][A-Z0-9_]*", name) and name not in _known_names()
    ]


def _unknown(name: str, where: str) -> str:
    similar = difflib.get_close_matches(name, _known_names(), n=1)
    hint = f"; did you mean {similar[0]}?" if similar else ""
    return f"{name} in {where} is not a setting of this service{hint}"


def _known_names() -> list[str]:
    return [field.metadata["name"] for field in dataclasses.fields(Settings)]


def _credentials_folder() -> Path | None:
    named = os.environ.get(CREDENTIALS_DIRECTORY)
    if not named:
        return None
    if not Path(named).is_dir():
        raise SettingsError([f"{CREDENTIALS_DIRECTORY} names a folder that does not exist: {named}"])
    return Path(named)


def _read_credentials() -> dict[str, str]:
    try:
        folder = _credentials_folder()
        if folder is None:
            return {}
        files = {name: folder / name for name in _known_names()}
        return {name: _read_credential(path) for name, path in files.items() if path.exists()}
    except OSError as error:
        raise SettingsError([f"{CREDENTIALS_DIRECTORY} has a file that cannot be read: {error}"]) from None


def _read_credential(path: Path) -> str:
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, f"It is not UTF-8: {error.reason}", str(path)) from None


def _read_file(folder: Path | None) -> dict[str, str]:
    name = settings_file()
    is_named = bool(os.environ.get(SETTINGS_FILE))
    path = Path(name) if is_named else (folder or Path.cwd()) / name
    values, problems = dotenv_file.read(path, name, may_be_missing=not is_named)
    if problems:
        raise SettingsError(problems)
    return values
