from __future__ import annotations

import csv
import io

import gevent

from ridges_proxy.runtime.csv_cells import Usd, csv_lines, safe_text
from ridges_proxy.web.csv_response import LINES_PER_PAUSE, csv_response
from tests.support.table import check_rows

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


def test_numbers_stay_numbers_and_texts_are_quoted() -> None:
    row = {"name": 'a";=1', "amount": Usd(-1e-06), "calls": -3, "closed": False, "none": None}
    header, line = csv_lines(list(row), [row])
    assert header == '"name","amount","calls","closed","none"\n'
    assert line == '"a"";=1",-0.000001000,-3,False,""\n'


def test_a_reader_of_csv_gets_every_text_back() -> None:
    texts = [*TEXTS, "a,b", "a\nb", 'a"b', "a\tb", "a;b"]
    written = csv_response("texts.csv", ["text"], [{"text": text} for text in texts])
    rows = list(csv.reader(io.StringIO(written.get_data(as_text=True), newline="")))
    assert rows == [["text"], *([text] for text in texts)]


def test_a_browser_saves_the_file_under_its_name() -> None:
    headers = csv_response("audit.csv", ["text"], []).headers
    assert headers["Content-Disposition"] == 'attachment; filename="audit.csv"'
    assert headers["Content-Type"] == "text/csv; charset=utf-8"


def test_other_requests_are_served_while_a_long_file_is_made() -> None:
    other = gevent.spawn(int)
    csv_response("texts.csv", ["number"], ({"number": number} for number in range(LINES_PER_PAUSE)))
    assert other.ready()
