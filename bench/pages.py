"""Replace the part of a page that a command writes, between comments: `<!-- NAME: begin -->` and `end`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def part_of(page: str, name: str) -> str:
    """Return what stands between the comments. Raises ValueError if the page does not have them."""
    return _split(page, name)[1]


def with_part(page: str, name: str, text: str) -> str:
    """Return the page with another text between the comments. Raises ValueError if it does not have them."""
    before, _, after = _split(page, name)
    return f"{before}\n{text.strip()}\n\n{after}"


def write_part(page: Path, name: str, text: str) -> None:
    """Write the text between the comments of a page, in place of what is there."""
    page.write_text(with_part(page.read_text("utf-8"), name, text), encoding="utf-8")


def _split(page: str, name: str) -> tuple[str, str, str]:
    """Return what stands before, between and behind, the comments themselves with their neighbours."""
    begin, end = (f"<!-- {name}: {word} -->\n" for word in ("begin", "end"))
    before, begins, rest = page.partition(begin)
    part, ends, after = rest.partition(end)
    if not begins or not ends:
        raise ValueError(f"no part of the page is between {begin.strip()} and {end.strip()}")
    return before + begins, part, ends + after
