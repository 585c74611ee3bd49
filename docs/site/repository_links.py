"""Links from the pages to other files of the repository, as a hook of MkDocs.

The pages are also read as plain files, so they link to files outside docs/ by relative paths. The site has a
copy of each such file in the folder `repository/`, and the links lead there.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, InclusionLevel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = "docs/"
COPIES = "repository/"

LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#])")
"""The path of a relative link, without its anchor."""


def on_files(files: Files, *, config: MkDocsConfig) -> None:
    """Add a copy of each file to which a page or another copy links."""
    waiting = [f"{DOCS}{page.src_uri}" for page in files.documentation_pages()]
    known = set(waiting)
    while waiting:
        for path in set(_linked(waiting.pop())) - known:
            known.add(path)
            waiting.append(path)
            if not path.startswith(DOCS):
                files.append(_copy(path, config))


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - the hook's signature
    """Return the page with its links changed to where their files are in the site."""
    here = page.file.src_uri
    path = _path_in_repository(here)
    return LINK.sub(lambda link: _link_in_site(path, here, link[0]), markdown)


def _linked(path: str) -> Iterator[str]:
    """Yield the files to which a page links, as paths in the repository."""
    if not path.endswith(".md"):
        return
    for link in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
        target = _target(path, link)
        if (ROOT / target).is_file():
            yield target


def _target(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _copy(path: str, config: MkDocsConfig) -> File:
    copy = File.generated(config, f"{COPIES}{path}", abs_src_path=str(ROOT / path))
    # By default MkDocs leaves out files whose names begin with a dot, and warns of pages that are not in nav.
    copy.inclusion = InclusionLevel.NOT_IN_NAV if path.endswith(".md") else InclusionLevel.INCLUDED
    return copy


def _path_in_repository(place: str) -> str:
    return place.removeprefix(COPIES) if place.startswith(COPIES) else f"{DOCS}{place}"


def _place_in_site(path: str) -> str:
    return path.removeprefix(DOCS) if path.startswith(DOCS) else f"{COPIES}{path}"


def _link_in_site(path: str, here: str, link: str) -> str:
    """Return a link of a page, relative to its place in the site. MkDocs reports a link to no file."""
    target = _target(path, link)
    if not (ROOT / target).is_file():
        return link
    return posixpath.relpath(_place_in_site(target), posixpath.dirname(here) or ".")
