"""The drawings of the docs: each has a text for screen readers, and colours for light and dark."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.support.table import check_rows

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"
DRAWINGS = [path for path in sorted(DOCS.glob("images/*.svg")) if not path.name.startswith("flame-")]


def test_each_drawing_has_a_title_and_a_description() -> None:
    def check(path: Path) -> None:
        root = ET.parse(path).getroot()
        assert (root.get("role"), root.get("aria-labelledby")) == ("img", "title desc")
        assert all((root.findtext(f"{SVG}{name}") or "").strip() for name in ("title", "desc"))

    assert len(DRAWINGS) >= 5
    check_rows(DRAWINGS, check)


def test_all_drawings_have_the_same_style_with_colours_for_dark_pages() -> None:
    styles = {ET.parse(path).getroot().findtext(f"{SVG}style") for path in DRAWINGS}
    (style,) = styles
    assert style
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    coloured = set(re.findall(r"^ +(\S+) \{.*#\w{6}", light, re.MULTILINE))
    assert len(coloured) > 8
    assert coloured <= set(re.findall(r"^ +(\S+) \{", dark, re.MULTILINE))


def test_each_drawing_is_on_a_page_with_a_text_in_its_place() -> None:
    pages = "\n".join(path.read_text("utf-8") for path in DOCS.rglob("*.md"))

    def check(path: Path) -> None:
        (text,) = re.findall(rf"!\[([^\]]+)\]\(\.\./images/{path.name}\)", pages)
        assert len(text) > 60

    check_rows(DRAWINGS, check)
