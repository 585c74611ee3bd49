"""The commands of deploy/README.md, to be run as they stand there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.process.fake_chutes_control import ROOT

if TYPE_CHECKING:
    from pathlib import Path

README = ROOT / "deploy" / "README.md"

HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(heading: str, page: Path = README) -> list[str]:
    """Return the blocks of shell commands below a heading, up to the next one. Asserts that there is one."""
    text = page.read_text(encoding="utf-8")
    # A comment in a block looks like a heading.
    outside = BLOCK.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    headings = list(HEADING.finditer(outside))
    ends = [*(each.start() for each in headings[1:]), len(text)]
    sections = {each[1]: text[each.end() : end] for each, end in zip(headings, ends, strict=True)}
    assert heading in sections, f"{page.name} has no heading {heading!r}, only {sorted(sections)}"
    found = BLOCK.findall(sections[heading])
    assert found, f"{heading!r} in {page.name} has no block of commands"
    return found
