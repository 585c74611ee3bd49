from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ridges_proxy.cli.settings import settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "options"), [("docs/CONFIGURATION.md", []), (".env.example", ["--env"])], ids=["page", "env"]
)
def test_a_generated_file_is_the_output_of_the_command(name: str, options: list[str]) -> None:
    result = CliRunner().invoke(settings, options)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (ROOT / name).read_text(encoding="utf-8"), f"{name} is out of date: make docs"


def test_no_line_of_the_example_file_is_longer_than_104_characters() -> None:
    lines = CliRunner().invoke(settings, ["--env"]).stdout.splitlines()

    assert [line for line in lines if len(line) > 104] == []
