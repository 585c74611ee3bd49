"""The site of the documentation: all of its links are right, and nothing comes from other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.process.fake_chutes_control import ROOT

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
    """Build the site, as `make site` does. A wrong link or a page outside nav is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


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
