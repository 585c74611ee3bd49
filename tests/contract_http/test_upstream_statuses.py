"""The tables in docs/reference/api.md of the upstream's statuses and bodies, row by row."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson

from ridges_proxy.errors import UpstreamRefusedError
from ridges_proxy.upstream.errors import error_of_status
from tests.contract_http.openai_api import HELLO_HOLD_NANOUSD, chat, stream
from tests.contract_http.service import CHAT_URL, app_of, infer, sent, spent_nanousd, sse
from tests.support.app import CHUTES_KEY
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses

API = Path(__file__).parents[2].joinpath("docs/reference/api.md").read_text(encoding="utf-8")
REJECTED = "the upstream's, or `upstream_rejected`"


def table(header: str) -> list[list[str]]:
    """The rows of the table whose first column has this header, without the back quotes."""
    lines = API[API.index(f"\n| {header} |") :].strip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


class Statuses(NamedTuple):
    """A row of the first table."""

    statuses: str
    status: str
    code: str
    retry: str
    cost: str

    def ranges(self) -> list[range]:
        return [
            range(int(low), int(high or low) + 1)
            for low, high in re.findall(r"(\d+)(?: to (\d+))?", self.statuses)
        ]

    @property
    def retry_after(self) -> str | None:
        seconds = re.search(r"after (\d+) s", self.retry)
        return seconds[1] if seconds else None

    @property
    def is_final(self) -> bool:
        return self.retry == "no"


class Form(NamedTuple):
    """A row of the second table."""

    source: str
    body: str
    message: str
    code: str
    param: str


STATUSES = [Statuses(*row) for row in table("status of the upstream")]
FORMS = [Form(*(cell.strip("`") for cell in row)) for row in table("from")]
EDGES = [(row, status) for row in STATUSES for each in row.ranges() for status in sorted({each[0], each[-1]})]
"""The first and the last status of each range."""
FIRST = [(row, row.ranges()[0][0]) for row in STATUSES]


def test_the_table_has_every_status_once() -> None:
    assert sorted(status for row in STATUSES for each in row.ranges() for status in each) == [
        *range(201, 600)
    ]


def test_every_status_has_the_error_of_its_row() -> None:
    def check(row: Statuses) -> None:
        for status in (status for each in row.ranges() for status in each):
            error = error_of_status(status, "Bad", retry_after_seconds=37)
            code = "upstream_rejected" if row.code == REJECTED else row.code.strip("`")
            assert (str(error.status), error.code) == (row.status, code)
            assert error.retry_after_seconds == (None if row.is_final else 37)
            if isinstance(error, UpstreamRefusedError):
                assert error.upstream_status == status

    check_rows(STATUSES, check)


def test_every_status_with_every_form_of_body_has_its_answer(upstream: responses.RequestsMock) -> None:
    def check(case: tuple[tuple[Statuses, int], Form, bool]) -> None:
        (row, status), form, streamed = case
        app = app_of()
        upstream.reset()
        upstream.post(CHAT_URL, body=form.body, status=status)
        reply = (stream if streamed else chat)(app)
        error = orjson.loads(reply.data)["error"]

        assert str(reply.status_code) == row.status
        if row.code == REJECTED:
            param = None if form.param == "null" else form.param
            assert (error["message"], error["code"], error["param"]) == (form.message, form.code, param)
        else:
            assert (error["code"], error["param"]) == (row.code.strip("`"), None)
            assert "Bad" not in error["message"]
        assert reply.headers.get("Retry-After") == row.retry_after
        is_final_502 = row.is_final and row.status == "502"
        assert reply.headers.get("X-Should-Retry") == ("false" if is_final_502 else None)
        assert spent_nanousd(app) == (HELLO_HOLD_NANOUSD if row.cost == "the hold" else 0)

    check_rows([*product(EDGES, FORMS[:1], [False]), *product(FIRST, FORMS[1:], [True])], check)


def test_the_upstreams_retry_after_is_passed_on_within_bounds(upstream: responses.RequestsMock) -> None:
    def check(case: tuple[tuple[Statuses, int], tuple[str, str]]) -> None:
        (row, status), (value, expected) = case
        upstream.reset()
        upstream.post(CHAT_URL, body=b"{}", status=status, headers={"Retry-After": value})
        shown = None if row.is_final else row.retry_after if expected == "default" else expected
        assert chat(app_of()).headers.get("Retry-After") == shown

    values = {"37": "37", "0": "1", "86400": "60", "soon": "default"}
    check_rows(product(FIRST, values.items()), check)
    assert "Retry-After" not in infer(app_of()).headers, "agents get 500 for each of them"


def test_a_code_or_a_param_that_is_no_short_word_is_not_passed_on(upstream: responses.RequestsMock) -> None:
    def check(word: object) -> None:
        upstream.reset()
        upstream.post(CHAT_URL, json={"error": {"message": "Bad", "code": word, "param": word}}, status=400)
        error = orjson.loads(chat(app_of()).data)["error"]
        assert (error["message"], error["code"], error["param"]) == ("Bad", "upstream_rejected", None)

    words = ["", "two words", "a" * 200, "a\n", "größe", "<b>", CHUTES_KEY, 5, 400, True, None, [], {"a": 1}]
    check_rows(words, check)


def test_an_error_object_in_place_of_an_answer_keeps_its_code_and_param(
    upstream: responses.RequestsMock,
) -> None:
    error = {"message": "Bad", "code": "context_length_exceeded", "param": "messages", "status": 400}

    def check(*, streamed: bool) -> None:
        upstream.reset()
        upstream.post(CHAT_URL, body=sse({"error": error}) if streamed else orjson.dumps({"error": error}))
        reply = (stream if streamed else chat)(app_of())
        found = orjson.loads(reply.data)["error"]
        assert (reply.status_code, found["code"]) == (400, "context_length_exceeded")
        assert (found["message"], found["param"]) == ("Bad", "messages")
        assert sent(upstream)["stream"] is streamed

    check_rows([False, True], lambda streamed: check(streamed=streamed))
