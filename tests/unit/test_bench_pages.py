"""The parts of pages that commands write, and the commit that they name."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from bench import renew
from bench.commit import GENERATED_PAGES, changed_files, commit
from bench.pages import part_of, with_part, write_part
from tests.support.table import each_row

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "before\n<!-- table: begin -->\nold\n<!-- table: end -->\nafter\n"


def test_a_part_is_replaced_and_all_else_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)

    write_part(page, "table", "| new |\n")

    assert page.read_text() == "before\n<!-- table: begin -->\n\n| new |\n\n<!-- table: end -->\nafter\n"
    assert part_of(page.read_text(), "table").strip() == "| new |"
    assert with_part(page.read_text(), "table", "| new |") == page.read_text()


@each_row("page", ["", PAGE.replace("end", "finish"), PAGE.replace("table", "other")])
def test_a_page_without_the_part_is_not_changed(page: str) -> None:
    with pytest.raises(ValueError, match="<!-- table: begin -->"):
        with_part(page, "table", "new")


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t.invalid")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_a_commit_says_whether_files_differ_but_for_the_pages_of_the_measurements(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert commit(folder) == "unknown"
    git(tmp_path, "init")
    page = tmp_path / GENERATED_PAGES[0]
    page.parent.mkdir(parents=True)
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "First")
    page.write_text("results")
    clean = commit(folder)

    assert len(clean) == 10
    assert changed_files(folder) == []
    (tmp_path / "code.py").write_text("2")
    (tmp_path / "new.py").write_text("3")
    assert changed_files(folder) == ["code.py", "new.py"]
    assert commit(folder) == f"{clean}+changes"


def test_each_benchmark_has_a_part_of_the_page() -> None:
    page = renew.PAGE.read_text()
    assert [name for name in renew.PARTS if f"<!-- {name}: begin -->" not in page] == []
    assert page.count(": begin -->") == len(renew.PARTS)
    modules = [renew.PAGE.parents[2] / "bench" / name for name in renew.PARTS]
    assert [str(path) for path in modules if not path.is_dir() and not path.with_suffix(".py").exists()] == []


def test_a_benchmark_that_fails_leaves_its_part_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("table", "no_such_benchmark"))

    assert not renew.renew("no_such_benchmark", page)

    assert "old" in page.read_text()


def test_a_benchmark_is_written_with_its_commit(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("table", "pages"))

    assert renew.renew("pages", page)  # a module that prints nothing

    assert f"commit {commit()}" in part_of(page.read_text(), "pages")
