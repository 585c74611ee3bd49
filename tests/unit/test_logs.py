"""The format of log lines, and what they leave out."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from datetime import datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.telemetry import logs
from tests.support.clock import Clock
from tests.support.table import check_rows

PROMPT = "the secret text of a prompt"

logger = logging.getLogger("ridges_proxy.tests")


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == "", "log lines go to standard error"
    return [json.loads(line) for line in captured.err.split("\n")[:-1]]


def text_line(capsys: pytest.CaptureFixture[str]) -> str:
    line, end, rest = capsys.readouterr().err.partition("\n")
    assert (end, rest) == ("\n", ""), "exactly one line"
    return line


def raised_inside() -> None:
    raise ValueError(PROMPT)


def log_exception() -> None:
    try:
        try:
            raised_inside()
        except ValueError as error:
            error.add_note(PROMPT)
            raise RuntimeError(PROMPT) from error
    except RuntimeError:
        logger.exception("it failed", extra={"run": "r1"})


# --- JSON


def test_a_json_line_is_one_object_with_the_documented_names(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")

    logger.info("call settled", extra={"run": "r1", "cost_usd": 0.25, "model": None, "problems": ["a", "b"]})

    (line,) = json_lines(capsys)
    moment = datetime.fromisoformat(line.pop("time"))
    assert moment.utcoffset() == timedelta(0)
    assert line == {
        "level": "INFO",
        "pid": os.getpid(),
        "logger": "ridges_proxy.tests",
        "event": "call settled",
        "run": "r1",
        "cost_usd": 0.25,
        "model": None,
        "problems": ["a", "b"],
    }


def test_an_event_is_written_as_the_logger_writes_its_own_records(capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"run": "a b", "status": 200, "code": None}

    def check(log_format: str) -> None:
        logs.configure("INFO", log_format)
        logger.info("request", extra=fields)
        logger.handle(logs.EventRecord(logger.name, logging.INFO, "request", fields))
        of_logger, of_event = (
            re.sub(r"\d{4}-\d\d-\d\dT[^ \"]*", "TIME", line) for line in capsys.readouterr().err.splitlines()
        )
        assert of_event == of_logger

    check_rows(["json", "text"], check)


def test_a_formatter_of_any_other_handler_can_write_an_event() -> None:
    names = sorted(vars(logging.makeLogRecord({})))
    written = logging.Formatter("".join(f"{name}=%({name})s " for name in names))
    event = logs.EventRecord(logger.name, logging.INFO, "request", {})
    assert "name=ridges_proxy.tests" in written.format(event)


def test_the_time_is_in_utc_to_the_millisecond(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    record = logger.makeRecord(logger.name, logging.INFO, "", 0, "x", (), None)
    record.created = 1_700_000_000.123

    logger.handle(record)

    assert json_lines(capsys)[0]["time"] == "2023-11-14T22:13:20.123+00:00"


ODD_VALUES = [
    "two\nlines",
    "\r\n\x00\x1b[31m\x7f",
    'quote " and \\',
    "é\u2028\u2029\u0085\U0001f600",
    "\ud800",
    2**70,
    -(2**70),
    float("nan"),
    float("inf"),
    b"bytes",
    {"nested": [1, "a\nb"]},
    {1: "a"},
    object(),
    ValueError("x"),
    ("a", "b"),
    {"a"},
]


def test_no_value_breaks_a_line_or_loses_it(capsys: pytest.CaptureFixture[str]) -> None:
    def check(row: tuple[str, object]) -> None:
        log_format, value = row
        logs.configure("INFO", log_format)

        logger.info("odd", extra={"value": value})

        line = text_line(capsys)
        assert "Logging error" not in line
        assert "odd" in line
        if log_format == "json":
            assert json.loads(line)["event"] == "odd"

    check_rows(list(product(["json", "text"], ODD_VALUES)), check)


def test_a_json_line_contains_the_value_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")

    def check(value: object) -> None:
        logger.info("odd", extra={"value": value})

        assert json_lines(capsys)[0]["value"] == value

    check_rows([value for value in ODD_VALUES if isinstance(value, str | int)], check)


# --- text


def test_a_text_line_is_the_time_the_level_the_event_and_the_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("INFO", "text")

    logger.warning("call settled", extra={"run": "r1", "cost_usd": 0.25, "model": None})

    moment, _, rest = text_line(capsys).partition(" ")
    assert datetime.fromisoformat(moment).utcoffset() == timedelta(0)
    assert rest == "WARNING call settled run=r1 cost_usd=0.25"


def test_a_value_is_one_word_of_a_text_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ("plain", "plain"),
        ("a-b_c.d:/e", "a-b_c.d:/e"),
        ("", '""'),
        ("two words", '"two words"'),
        (" ", '" "'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("two\nlines", '"two\\nlines"'),
        ("\r\t\x00", '"\\r\\t\\u0000"'),
        ("\x1b[2J", '"\\u001b[2J"'),
        ("\x7f", '"\\u007f"'),
        ("\u2028\u0085", '"\\u2028\\u0085"'),
        ("\u202eabc", '"\\u202eabc"'),
        ("é", '"\\u00e9"'),
        ("\ud800", '"\\ud800"'),
        (["a b"], "\"['a b']\""),
        (True, "True"),
        (1.5, "1.5"),
    ]
    logs.configure("INFO", "text")

    def check(row: tuple[object, str]) -> None:
        value, word = row
        logger.info("x", extra={"value": value, "last": 1})

        assert text_line(capsys).endswith(f" INFO x value={word} last=1")

    check_rows(rows, check)


FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^\s"=\\]+)')


@given(value=st.text() | st.text(' =\\"\n\r\x1b\u2028ab'))
def test_no_value_can_forge_a_field_or_a_line(value: str) -> None:
    record = logger.makeRecord(
        logger.name, logging.INFO, "", 0, "x", (), None, extra={"run": value, "cost": 5}
    )

    line = logs._TextFormatter().format(record)

    assert line.isascii()
    assert line.isprintable(), "no line ends, no control characters"
    fields = FIELD.findall(line)
    assert [name for name, _ in fields] == ["run", "cost"]
    assert line.endswith(" INFO x" + "".join(f" {name}={word}" for name, word in fields))
    word = fields[0][1]
    assert (json.loads(word) if word.startswith('"') else word) == value


# --- exceptions


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_exception_is_logged_by_its_type_and_frames_and_never_by_its_text(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("INFO", log_format)

    log_exception()

    line = text_line(capsys)
    assert PROMPT not in line
    assert "secret" not in line
    assert "Traceback" not in line
    assert re.search(r"RuntimeError at test_logs\.py:\d+ log_exception", line)
    assert "run" in line


def test_the_origin_of_an_exception_is_a_separate_field(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")

    log_exception()

    (line,) = json_lines(capsys)
    assert line.keys() == {"time", "level", "pid", "logger", "event", "run", "where"}
    assert re.fullmatch(r"RuntimeError at test_logs\.py:\d+ log_exception", line["where"])


def test_the_origin_has_the_last_five_frames_in_the_order_of_the_calls(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def dig(depth: int) -> None:
        if depth:
            dig(depth - 1)
        raised_inside()

    logs.configure("INFO", "json")
    try:
        dig(20)
    except ValueError:
        logger.exception("deep")

    where = json_lines(capsys)[0]["where"]
    assert where.startswith("ValueError at ")
    assert re.sub(r"test_logs\.py:\d+ ", "", where) == "ValueError at dig > dig > dig > dig > raised_inside"


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_exception_that_was_never_raised_is_logged_in_the_same_way(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("INFO", log_format)

    logger.error("never raised", exc_info=ValueError(PROMPT))
    logger.error("no exception here", exc_info=True)  # noqa: LOG014 - a mistake that must not break the line

    first, second, end = capsys.readouterr().err.split("\n")
    assert PROMPT not in first
    assert "ValueError" in first
    assert "unknown" in second
    assert end == ""


# --- repeated lines


def test_a_repeated_error_has_ten_lines_a_second_and_the_number_of_those_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("INFO", "json", clock := Clock())
    for number in range(1_000):
        logger.error("the ledger failed", extra={"number": number})
        logger.info("request")
        logger.warning("another")
    logs.report_left_out()

    lines = json_lines(capsys)
    written = [line["number"] for line in lines if line["event"] == "the ledger failed"]
    assert written == list(range(10))
    assert Counter(line["event"] for line in lines) == {
        "the ledger failed": 10,
        "another": 10,
        "request": 1_000,
    }

    clock.advance(1)
    logger.error("the ledger failed", extra={"number": 1_000})

    first, second, third = json_lines(capsys)
    left_out = {"logger": "ridges_proxy.tests", "event": "repeated lines were left out", "lines": 990}
    for line, level, message in ((first, "ERROR", "the ledger failed"), (second, "WARNING", "another")):
        assert {name: line[name] for name in left_out} == left_out
        assert (line["level"], line["repeated"]) == (level, message)
    assert third["number"] == 1_000


def test_the_number_of_lines_that_were_left_out_is_written_without_a_next_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("INFO", "text", clock := Clock())
    for _ in range(12):
        logger.error("the ledger failed")
    capsys.readouterr()
    clock.advance(1)
    logs.report_left_out()

    _, _, rest = text_line(capsys).partition(" ")
    assert rest == 'ERROR repeated lines were left out repeated="the ledger failed" lines=2'
    clock.advance(1)
    logs.report_left_out()
    assert capsys.readouterr().err == ""


# --- configuration


def test_configuring_again_replaces_the_handler(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    logs.configure("INFO", "json")

    logger.info("once")

    assert [line["event"] for line in json_lines(capsys)] == ["once"]


def test_the_level_applies_to_all_loggers_of_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING", "json")
    logger.info("quiet")
    logger.warning("loud")

    logs.configure("DEBUG", "json")
    logger.debug("all")

    assert [line["event"] for line in json_lines(capsys)] == ["loud", "all"]


def test_lines_do_not_propagate_to_the_root_logger() -> None:
    logs.configure("INFO", "json")

    assert not logging.getLogger(logs.ROOT).propagate
