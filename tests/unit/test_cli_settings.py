from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ridges_proxy.cli.settings import settings
from ridges_proxy.config import Settings
from tests.support.app import environ_of

if TYPE_CHECKING:
    from click.testing import Result

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "options"),
    [("docs/reference/configuration.md", []), (".env.example", ["--env"])],
    ids=["page", "env"],
)
def test_a_generated_file_is_the_output_of_the_command(name: str, options: list[str]) -> None:
    result = CliRunner().invoke(settings, options)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (ROOT / name).read_text(encoding="utf-8"), f"{name} is out of date: make docs"


def test_no_line_of_the_example_file_is_longer_than_104_characters() -> None:
    lines = CliRunner().invoke(settings, ["--env"]).stdout.splitlines()

    assert [line for line in lines if len(line) > 104] == []


# --- the check


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for field in dataclasses.fields(Settings):
        monkeypatch.delenv(field.metadata["name"], raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_of(path: Path, **values: str) -> Result:
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return CliRunner().invoke(settings, ["--check"], env={"SETTINGS_FILE": str(path)})


def test_valid_settings_pass_the_check_with_their_warnings(folder: Path) -> None:
    result = check_of(folder / "env", **environ_of(PROT="1", LEDGER_URL=f"sqlite:///{folder}/ledger.db"))
    assert (result.exit_code, result.stdout) == (0, "The settings are valid.\n")
    assert result.stderr == (
        f"Warning: PROT in {folder}/env is not a setting of this service; did you mean PORT?\n"
    )


def test_the_check_prints_every_problem(folder: Path) -> None:
    result = check_of(folder / "env", **environ_of(PORT="x", WORKERS="0"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["PORT", "WORKERS"]


def test_the_check_opens_the_ledger(folder: Path) -> None:
    result = check_of(folder / "env", **environ_of(LEDGER_URL=f"sqlite:///{folder}/none/ledger.db"))
    assert result.exit_code == 1
    assert result.stderr.startswith("The ledger cannot be opened: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write to all folders")
def test_files_that_root_makes_belong_to_the_owner_of_the_folder(folder: Path) -> None:
    data = folder / "data"
    data.mkdir()
    os.chown(data, 65_534, 65_534)
    stores = {"LEDGER_URL": f"sqlite:///{data}/ledger.db", "LEDGER_OUTBOX": f"{data}/outbox"}
    result = check_of(folder / "env", **environ_of(**stores))
    assert (result.exit_code, result.stderr) == (0, "")
    owners = {path.name: path.stat().st_uid for path in data.iterdir()}
    assert "ledger.db" in owners
    assert set(owners.values()) == {65_534}, owners
