"""Ids on the dashboard's pages."""

from __future__ import annotations

from ridges_proxy.web.dashboard.identifiers import SplitId, element_id
from tests.support.table import check_rows

SPLITS = {
    "short": "",
    "x" * 24: "",
    "3f8e2c1a-77d0-4b7e-9d5c-0a1b2c3d4e5f": "2c3d4e5f",
    "a" * 20 + "e\u0301" + "b" * 7: "e\u0301" + "b" * 7,
    "\u0301" * 30: "\u0301" * 30,
}
"""Ids, and their second part: a mark is not parted from its letter."""


def test_an_id_is_split_and_stays_whole_in_sum() -> None:
    def check(text: str) -> None:
        parts = SplitId.of(text)
        assert parts.start + parts.end == text
        assert parts.end == SPLITS[text]

    check_rows(SPLITS, check)


def test_an_element_has_a_valid_id_for_any_text() -> None:
    texts = ["run", "a b", "<b>", '"', "\u200b", "x" * 256]
    ids = {element_id("run", text) for text in texts}
    assert len(ids) == len(texts)
    assert all(found.replace("-", "").isalnum() and len(found) == len("run-") + 16 for found in ids)
