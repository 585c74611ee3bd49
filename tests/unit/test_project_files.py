"""Files about the project: metadata, licences, changelog, contributing guide, editor and hook settings."""

from __future__ import annotations

import configparser
import hashlib
import re
import subprocess
import tomllib
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").glob("*.md")]

PROJECT_FILES = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"}
ISSUE_FORMS = ("bug.yml", "feature.yml")
EDITORCONFIG_VALUES = {
    "charset": r"utf-8|unset",
    "end_of_line": r"lf|unset",
    "indent_size": r"[248]|unset",
    "indent_style": r"space|tab|unset",
    "insert_final_newline": r"true|unset",
    "max_line_length": r"\d+",
    "trim_trailing_whitespace": r"true|unset",
}
"""The properties that editors know (editorconfig.org), and what this project may set them to."""


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pyproject() -> dict[str, Any]:
    return tomllib.loads(text_of("pyproject.toml"))


def requirements() -> Iterator[str]:
    project = pyproject()
    yield from project["project"]["dependencies"]
    for group in (project["project"]["optional-dependencies"], project["dependency-groups"]):
        for listed in group.values():
            yield from listed


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def test_the_version_is_the_newest_of_the_changelog() -> None:
    first, *released = re.findall(r"^## \[(.+?)\](.*)$", text_of("CHANGELOG.md"), re.MULTILINE)
    versions = [tuple(map(int, version.split("."))) for version, _ in released]
    dates = [date for _, date in released]

    assert first == ("Unreleased", "")
    assert released[0][0] == pyproject()["project"]["version"]
    assert versions == sorted(set(versions), reverse=True)
    assert [date for date in dates if not re.fullmatch(r" - \d{4}-\d\d-\d\d", date)] == []
    assert dates == sorted(dates, reverse=True)


def test_no_entry_of_the_next_release_is_there_twice() -> None:
    """Merges of branches that change the same entry may keep both, or the end of one."""
    _, unreleased, *_ = text_of("CHANGELOG.md").split("\n## ")
    beginnings = [line.strip("- ")[:48] for line in unreleased.splitlines() if len(line) > 60]
    assert [line for line, times in Counter(beginnings).items() if times > 1] == []


def test_the_files_that_people_look_for_are_there() -> None:
    licences = pyproject()["project"]["license-files"]

    assert [name for name in PROJECT_FILES if not (ROOT / name).is_file()] == []
    assert [pattern for pattern in licences if not list(ROOT.glob(pattern))] == []
    assert text_of("LICENSE").startswith("MIT License\n\nCopyright (c) 2026 Ridges AI Proxy contributors\n")
    assert pyproject()["project"]["license"] == "MIT"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_tracked_file_is_ignored() -> None:
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert listed.stdout.splitlines() == []


def test_every_relative_link_points_to_a_file() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:|#", target)
        if not (page.parent / target.partition("#")[0]).exists()
    ]

    assert broken == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_every_page_that_a_file_names_exists() -> None:
    command = ["git", "grep", "-hoIE", r"docs/[a-zA-Z_/-]+\.md", "--", ".", ":!CHANGELOG.md"]
    named = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    assert len(named) > 40
    assert [page for page in sorted(set(named)) if not (ROOT / page).is_file()] == []


def test_vendored_files_are_the_published_files() -> None:
    sums = [
        *sorted((ROOT / "ridges_proxy").rglob("vendor/SHA256SUMS")),
        ROOT / "tests/deploy/vendor/SHA256SUMS",
    ]
    differing = []
    for path in sums:
        expected = {name: digest for digest, name in map(str.split, path.read_text("utf-8").splitlines())}
        found = {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in path.parent.iterdir()
            if file.name not in {"README.md", "SHA256SUMS"}
        }
        differing += sorted({f"{path.parent}: {name}" for name, _ in expected.items() ^ found.items()})

    assert [path.parts[-4] for path in sums[:2]] == ["dashboard", "openapi"]
    assert differing == []


def test_every_dependency_has_its_reason_beside_it() -> None:
    text = text_of("pyproject.toml")
    listed = list(requirements())
    bare = [
        each
        for each in listed
        if not re.search(rf'^    "{re.escape(each)}", +# \S.{{4}}', text, re.MULTILINE)
    ]

    assert len(listed) > 30
    assert bare == []


def test_the_mutants_run_no_test_that_imports_a_benchmark() -> None:
    """mutmut copies the tests, but not `bench/`. One that cannot be imported stops `make mutants`."""
    chosen = pyproject()["tool"]["mutmut"]["pytest_add_cli_args_test_selection"]
    ignored = {each.removeprefix("--ignore-glob=*/") for each in chosen if each.startswith("--ignore-glob=")}
    importing = [
        path.name
        for folder in ("unit", "contract")
        for path in (ROOT / "tests" / folder).glob("test_*.py")
        if re.search(r"^(from|import) bench\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]

    assert len(importing) > 4
    assert [name for name in importing if not any(fnmatch(name, pattern) for pattern in ignored)] == []


def test_the_editor_settings_are_valid_and_agree_with_the_linter() -> None:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(f"[preamble]\n{text_of('.editorconfig')}")
    preamble, *sections = parsed.sections()
    unknown = [
        f"[{section}] {name} = {value}"
        for section in sections
        for name, value in parsed[section].items()
        if not re.fullmatch(EDITORCONFIG_VALUES.get(name, "(?!)"), value)
    ]

    assert dict(parsed[preamble]) == {"root": "true"}
    assert unknown == []
    assert parsed["*.py"].getint("max_line_length") == pyproject()["tool"]["ruff"]["line-length"]
    assert parsed["Makefile"]["indent_style"] == "tab"


def test_the_hooks_run_programs_that_the_dev_group_installs() -> None:
    config = yaml.safe_load(text_of(".pre-commit-config.yaml"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    programs = [hook["entry"].split()[0] for hook in hooks]
    installed = {f".venv/bin/{name_of(each)}" for each in pyproject()["dependency-groups"]["dev"]}

    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    assert programs
    assert [program for program in programs if program not in installed] == []


def test_the_issue_forms_have_what_a_form_needs() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = {name: yaml.safe_load((folder / name).read_text(encoding="utf-8")) for name in ISSUE_FORMS}
    fields = [
        (name, field) for name, form in forms.items() for field in form["body"] if field["type"] != "markdown"
    ]

    assert {path.name for path in folder.iterdir()} == {*ISSUE_FORMS, "config.yml"}
    assert [name for name, form in forms.items() if not {"name", "description", "body"} <= form.keys()] == []
    assert [field for _, field in fields if not {"id", "attributes"} <= field.keys()] == []
    assert len({(name, field["id"]) for name, field in fields}) == len(fields)


def test_the_contributing_page_lists_every_program_that_tests_need() -> None:
    needed = re.findall(r"^need (\S+) (\S+)$", text_of(".ci/run"), re.MULTILINE)
    rows = [line for line in text_of("CONTRIBUTING.md").splitlines() if line.startswith("|")]
    missing = [
        f"{program} ({package})"
        for program, package in needed
        if not any(f"`{program}`" in row and f"| `{package}` |" in row for row in rows)
    ]

    assert len(needed) > 5
    assert missing == []


def test_the_contributing_page_names_make_targets_that_exist() -> None:
    commands = re.findall(r"(?:^|`)make ([a-z -]+)", text_of("CONTRIBUTING.md"), re.MULTILINE)
    named = {target for command in commands for target in command.split()}
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))

    assert {"check", "docs", "lock", "pictures", "test"} <= named
    assert named - targets == set()
