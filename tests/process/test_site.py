"""The site of the documentation: all of its links are right, and nothing comes from other hosts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.process.fake_chutes_control import ROOT
from tests.support.table import each_row

if TYPE_CHECKING:
    from pathlib import Path

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*?\bsrc=["']?(https?:)?//"""
    r"""|<link\b(?![^>]*\brel=["']?canonical)[^>]*?\bhref=["']?(https?:)?//"""
    r"""|(?:url\(|@import)\s*["']?(https?:)?//"""
)
"""A file that a browser would load from another host."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    return folder


def build(settings: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build a site into a folder, as `make site` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    return subprocess.run(
        [*command, "--config-file", str(settings)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@each_row(
    "old, new, warning",
    [
        ("](hold.md)", "](old.md)", "'old.md'"),
        ("](hold.md)", "](../old.md)", "'../old.md'"),
        ("#end", "#ending", "does not contain an anchor '#ending'"),
        ("](hold.md)", "](/hold.md)", "absolute link"),
        ("  - hold.md\n", "", 'not included in the "nav"'),
    ],
)
def test_a_fault_ends_the_build(
    tmp_path_factory: pytest.TempPathFactory, old: str, new: str, warning: str
) -> None:
    folder = tmp_path_factory.mktemp("faulty")
    shutil.copytree(ROOT / "docs/site", folder / "docs/site")
    settings, _, _ = (ROOT / "mkdocs.yml").read_text("utf-8").partition("nav:\n")
    files = {
        "index.md": "# Home\n\n[a hold](hold.md) and [its end](hold.md#end)\n",
        "hold.md": "# Hold\n\n## End\n",
        "../mkdocs.yml": f"{settings}nav:\n  - index.md\n  - hold.md\n",
    }
    for name, text in files.items():
        (folder / "docs" / name).write_text(text.replace(old, new))
    done = build(folder / "mkdocs.yml", folder / "site")
    assert done.returncode == 1
    assert warning in done.stderr


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert [str(page) for page in pages if not (site / page).is_file()] == []
    assert [path.name for path in (site / "site").iterdir()] == ["site.css"]


def test_the_site_has_the_files_outside_docs_to_which_pages_link(site: Path) -> None:
    page = (site / "operating" / "observing.html").read_text("utf-8")
    assert 'href="../repository/deploy/prometheus.yml"' in page
    assert (site / "repository/deploy/prometheus.yml").read_bytes() == (
        ROOT / "deploy/prometheus.yml"
    ).read_bytes()
    assert (site / "repository/.env.example").is_file()
    guide = (site / "repository" / "deploy" / "index.html").read_text("utf-8")
    assert 'href="../../operating/observing.html"' in guide


def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in {".html", ".css"}]
    assert len(files) > 20
    found = {path.name: match[0] for path in files if (match := LOADED.search(path.read_text("utf-8")))}
    assert found == {}
