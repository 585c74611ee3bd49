"""The text of an HTML page, as a reader sees it."""

from __future__ import annotations

import html
import re


def text_of(page: str) -> str:
    """The page without its tags. Each sequence of white space is one space."""
    page = re.sub(r"</?span[^>]*>", "", page)  # inside of words: the dim zeros of an amount
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
