from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from ridges_proxy.cli.fields import BEGIN, END, fields
from ridges_proxy.web.schemas.field_table import PLACES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def test_the_page_has_the_output_of_the_command() -> None:
    result = CliRunner().invoke(fields)

    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{BEGIN}{result.stdout}\n{END}" in PAGE.read_text(encoding="utf-8"), "out of date: make docs"


def test_the_output_has_every_field_of_the_table() -> None:
    output = CliRunner().invoke(fields).stdout
    tables = dict(zip([place.title for place in PLACES], output.split("\n**")[1:], strict=True))

    for place in PLACES:
        names = place.sent | place.read | place.dropped | place.refused.keys()
        assert [name for name in names if f"`{name}`" not in tables[place.title]] == []


def test_only_the_text_between_the_marks_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n", encoding="utf-8")

    assert CliRunner().invoke(fields, ["--into", str(page)]).exit_code == 0

    written = page.read_text(encoding="utf-8")
    assert written.startswith(f"before\n{BEGIN}")
    assert written.endswith(f"{END}after\n")
    assert "old" not in written
    assert "`messages`" in written


def test_a_page_without_the_marks_is_not_changed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n", encoding="utf-8")

    result = CliRunner().invoke(fields, ["--into", str(page)])

    assert result.exit_code == 1
    assert "The page needs the lines" in result.stderr
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}old\n"
