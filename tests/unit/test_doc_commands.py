"""The commands in the docs exist, with their options, and a test runs the examples of each page."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli.main import main
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").glob("*.md")])
SHELL = {"", "sh"}

RUN_BY = {
    "README.md": "tests/process/test_readme.py",
    "deploy/CONTAINERS.md": "tests/deploy/test_container_files.py",
    "deploy/README.md": "tests/boot/guide.py",
    "docs/operating/alerts.md": "tests/process/test_docs.py",
    "docs/operating/budgets.md": "tests/unit/test_budgets_page.py",
    "docs/operating/command-line.md": "tests/process/test_docs.py",
    "docs/operating/ledgers.md": "tests/process/test_readme.py",
    "docs/operating/migration.md": "tests/process/test_docs.py",
    "docs/operating/operations.md": "tests/process/test_docs.py",
    "docs/operating/reconcile.md": "tests/unit/test_cli_reconcile.py",
    "docs/reference/api.md": "tests/process/test_readme.py",
    "docs/start/clients.md": "tests/clients/test_page.py",
    "docs/start/tutorial.md": "tests/process/test_tutorial.py",
}
"""The test that runs the examples of a page. Pages whose examples are only `make` are not here."""

NOT_RUN = {
    "CONTRIBUTING.md": "its example is the test suite",
    "docs/reference/mutants.md": "its examples take hours, with programs that only `make mutants` installs",
}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """The blocks of code of a page, each with its language."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def shell_lines(page: Path) -> Iterator[str]:
    """The lines of its shell blocks, and its texts in code that begin with a command."""
    text = page.read_text("utf-8")
    for language, block in blocks_of(page):
        if language in SHELL:
            yield from block.replace("\\\n", " ").splitlines()
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`]+)`", prose):
        yield " ".join(span.split())


def commands(program: str) -> list[tuple[str, str]]:
    """The commands of all pages that run a program, each with the name of its page."""
    found = re.compile(rf"(?:^|(?<=[;(|&] )|(?<=\()|(?<=bin/)|(?<=ridges-proxy )){program}(?: [^|;)>#]*|$)")
    return [
        (name_of(page), match[0].strip())
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for line in shell_lines(page)
        for match in found.finditer(line)
    ]


def options_of(command: click.Command) -> set[str]:
    return {
        "--help",
        "--version",
        *(name for param in command.params for name in param.opts + param.secondary_opts),
    }


def test_each_command_of_the_docs_exists_with_its_options() -> None:
    def check(row: tuple[str, str]) -> None:
        _, *words = shlex.split(row[1].replace("`", ""))
        command: click.Command = main
        while words and isinstance(command, click.Group) and not words[0].startswith("-"):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found, "no such command"
            command = found
        unknown = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} - options_of(
            command
        )
        assert not unknown, f"{command.name} has no {unknown}"

    rows = commands("ridges-proxy")
    assert len(rows) > 60
    check_rows(rows, check)


def test_each_make_target_of_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    def check(row: tuple[str, str]) -> None:
        named = {word for word in row[1].partition("=")[0].split()[1:] if re.fullmatch(r"[a-z-]+", word)}
        assert named <= targets

    check_rows([row for row in commands("make") if re.match(r"make [a-z]", row[1])], check)


def test_each_module_that_the_docs_run_exists() -> None:
    def check(row: tuple[str, str]) -> None:
        (name,) = re.findall(r"-m ([\w.]+)", row[1])
        assert importlib.util.find_spec(name)

    check_rows([row for row in commands("python") if " -m " in row[1]], check)


def test_each_page_with_examples_has_a_test_that_runs_them() -> None:
    with_examples = {
        name_of(page)
        for page in PAGES
        for language, block in blocks_of(page)
        if language in {"python", "py", "javascript"}
        or (language == "sh" and re.search(r"^(?!make )", block.strip(), re.MULTILINE))
    }
    assert with_examples == {*RUN_BY, *NOT_RUN}

    def check(row: tuple[str, str]) -> None:
        page, test = row
        text = (ROOT / test).read_text("utf-8")
        assert page.removeprefix("docs/") in text or Path(page).name in text

    check_rows(RUN_BY.items(), check)
