from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from ridges_proxy.cli.csv_cells import Usd, safe_text, write_csv
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest

FORMULAS = [
    '=HYPERLINK("http://evil.example","x")',
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\tx",
    "\r=1",
    "\rx",
    "\nx",
    "\uff1d1",  # full-width
    "\uff0b1",
    "\uff0d1",
    "\uff201",
    "\ufe661",  # small forms
    "\ufe621",
    "\ufe631",
    "\ufe6b1",
    "\u22121",  # minus sign
    " =1",  # spaces that are ignored
    "\u00a0=1",
    "\u3000=1",
    " \t@x",
    "\ufeff=1",  # characters that are not shown
    "\u200b=1",
    "=",
    "-5",
]
TEXTS = ["", "run-1", "1", "0.5", "a=b", "x+1", "mail@example.com", "'=1", "f\u00fcr", " x", "\u2014x", "#1"]


def test_a_text_that_begins_a_formula_is_prefixed() -> None:
    def check(text: str) -> None:
        assert safe_text(text) == "'" + text

    check_rows(FORMULAS, check)


def test_other_text_is_unchanged() -> None:
    def check(text: str) -> None:
        assert safe_text(text) == text

    check_rows(TEXTS, check)


def test_numbers_stay_numbers_and_texts_are_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"name": 'a";=1', "amount": Usd(-1e-06), "calls": -3, "closed": False, "none": None}
    write_csv(list(row), [row])
    header, line = capsys.readouterr().out.splitlines()
    assert header == '"name","amount","calls","closed","none"'
    assert line == '"a"";=1",-0.000001000,-3,False,""'


def test_a_reader_of_csv_gets_every_text_back(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [*TEXTS, "a,b", "a\nb", 'a"b', "a\tb", "a;b"]
    write_csv(["text"], [{"text": text} for text in texts])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [["text"], *([text] for text in texts)]
