"""MODEL_PRICES in all its forms."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.billing.prices import Price
from ridges_proxy.config import DEFAULT_MODEL, SettingsError
from tests.support.app import settings_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path


def problems_of(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        settings_of(**environ)
    return raised.value.problems


M = DEFAULT_MODEL
GOOD_PRICES = [
    (f'{{"{M}": 0.27}}', Price(270_000_000, 270_000_000)),
    (f'{{"{M}": 0}}', Price(0, 0)),
    (f'{{"{M}": 3}}', Price(3_000_000_000, 3_000_000_000)),
    (f'{{"{M}": 1e-10}}', Price(1, 1)),
    (f'{{"{M}": {{"input": 0.27, "output": 1.1}}}}', Price(270_000_000, 1_100_000_000)),
    (f'{{"{M}": {{"output": 1.1, "input": 0}}}}', Price(0, 1_100_000_000)),
    (f'{{"{M}": 0.30000000000000001}}', Price(300_000_001, 300_000_001)),
    (f'  {{"{M}": 1, "other": 2}}  ', Price(1_000_000_000, 1_000_000_000)),
    (f'{{"{M}": {{"input": 1, "output": 2, "cached_input": 0.1}}}}', Price(10**9, 2 * 10**9, 10**8)),
    (f'{{"{M}": {{"input": 1, "output": 2, "cached_input": 1}}}}', Price(10**9, 2 * 10**9, 10**9)),
    (f'{{"{M}": {{"input": 1, "output": 2, "cached_input": 0}}}}', Price(10**9, 2 * 10**9, 0)),
    (
        f'{{"{M}": {{"input": 1, "output": 2, "upstream": "org/m 1"}}}}',
        Price(10**9, 2 * 10**9, None, "org/m 1"),
    ),
    (
        f'{{"{M}": {{"input": 1, "output": 2, "context_length": 163840}}}}',
        Price(10**9, 2 * 10**9, context_length=163_840),
    ),
    (
        f'{{"{M}": {{"upstream": "走", "cached_input": 1e-10, "output": 0, "input": 1e-10}}}}',
        Price(1, 0, 1, "走"),
    ),
]


def test_prices_are_read_from_json_and_from_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"

    def check(row: tuple[str, Price]) -> None:
        raw, price = row
        path.write_text(raw)
        assert settings_of(MODEL_PRICES=raw).model_prices[M] == price
        assert settings_of(MODEL_PRICES=str(path)).model_prices[M] == price

    check_rows(GOOD_PRICES, check)


def test_prices_are_read_from_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    rows = [
        (f'"{M}" = 0.27', Price(270_000_000, 270_000_000)),
        (f'"{M}" = 3', Price(3_000_000_000, 3_000_000_000)),
        (f'["{M}"]\ninput = 0.27\noutput = 1.1\n', Price(270_000_000, 1_100_000_000)),
        (f'"{M}" = {{ input = 0.3, output = 1e-10 }}', Price(300_000_000, 1)),
        (
            f'["{M}"]\ninput = 0.27\noutput = 1.1\ncached_input = 0.07\nupstream = "other"\n',
            Price(270_000_000, 1_100_000_000, 70_000_000, "other"),
        ),
    ]

    def check(row: tuple[str, Price]) -> None:
        content, price = row
        path.write_text(content)
        assert settings_of(MODEL_PRICES=str(path)).model_prices[M] == price

    check_rows(rows, check)


BAD_PRICES = [
    ("{", "neither JSON"),
    ('{"m": 1,}', "neither JSON"),
    ('{"m": 01}', "neither JSON"),
    ("{}", "at least one model"),
    ('{"m": 1, "m": 1}', "twice"),
    ('{"m": {"input": 1, "input": 1, "output": 1}}', "twice"),
    ('{"m": -1}', "'m'"),
    ('{"m": NaN}', "'m'"),
    ('{"m": Infinity}', "'m'"),
    ('{"m": -Infinity}', "'m'"),
    ('{"m": 1e30}', "'m'"),
    ('{"m": 1e99999999999999999999}', "exponent"),
    ('{"m": 1000001}', "'m'"),
    ('{"m": "0.27"}', "'m'"),
    ('{"m": true}', "'m'"),
    ('{"m": null}', "'m'"),
    ('{"m": []}', "'m'"),
    ('{"m": [0.27, 1.1]}', "'m'"),
    ('{"m": {}}', "'m'"),
    ('{"m": {"input": 1}}', "'m'"),
    ('{"m": {"input": 1, "output": 1, "cache": 1}}', "unknown key 'cache' for 'm'"),
    ('{"m": {"input": 1, "output": 1, "Upstream": "n"}}', "unknown key 'Upstream' for 'm'"),
    ('{"m": {"input": 1, "output": 1, "\\u001b[2J": 1}}', r"unknown key '\\x1b\[2J' for 'm'"),
    ('{"m": {"input": 1, "output": 1, "' + "k" * 5000 + '": 1}}', "unknown key 'kkk.*' for 'm'"),
    ('{"m": {"cached_input": 1}}', "needs one number, or input and output, for 'm'"),
    ('{"m": {"input": 1, "output": 1, "cached_input": 1.000000001}}', "cached_input above input for 'm'"),
    ('{"m": {"input": 1, "output": 9, "cached_input": 2}}', "cached_input above input for 'm'"),
    ('{"m": {"input": 1, "output": 1, "cached_input": null}}', "price that is not a number for 'm'"),
    ('{"m": {"input": 1, "output": 1, "cached_input": "0"}}', "price that is not a number for 'm'"),
    ('{"m": {"input": 1, "output": 1, "cached_input": -1}}', "price for 'm' that"),
    ('{"m": {"input": 1, "output": 1, "cached_input": true}}', "price that is not a number for 'm'"),
    ('{"m": {"input": 1, "output": 1, "upstream": ""}}', "upstream for 'm' that is not 1 to 256"),
    ('{"m": {"input": 1, "output": 1, "upstream": null}}', "upstream for 'm' that is not 1 to 256"),
    ('{"m": {"input": 1, "output": 1, "upstream": 3}}', "upstream for 'm' that is not 1 to 256"),
    ('{"m": {"input": 1, "output": 1, "upstream": "a\\nb"}}', "upstream for 'm' that is not 1 to 256"),
    ('{"m": {"input": 1, "output": 1, "upstream": "' + "u" * 257 + '"}}', "upstream for 'm' that is not"),
    *(
        (
            f'{{"m": {{"input": 1, "output": 1, "context_length": {length}}}}}',
            "context_length for 'm' that is",
        )
        for length in ("0", "-1", "1.5", "1e10", "1e999999", "NaN", "null", "true", '"8"', "[]")
    ),
    ('{"": 1}', "name is not 1 to 256 printable characters: ''"),
    ('{"a\\u001b[2J": 1}', r"name is not 1 to 256 printable characters: 'a\\x1b\[2J'"),
    ('{"\\ud800": 1}', "name is not 1 to 256 printable characters"),
    ('{"' + "x" * 257 + '": 1}', "name is not 1 to 256 printable characters"),
    ('{"m": {"input": 1, "output": -1}}', "'m'"),
    ('{"m": {"input": 1, "output": "1"}}', "'m'"),
    ('{"m": {"input": 1, "output": {"usd": 1}}}', "'m'"),
    ('{"m": {"input": 1, "output": NaN}}', "'m'"),
    ('{"m": ' * 2000 + "1" + "}" * 2000, "nested too deeply|'m'"),
    ('{"m": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
]


def test_invalid_prices_are_one_problem_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"

    def check(row: tuple[str, str]) -> None:
        raw, reason = row
        path.write_text(raw)
        (problem,) = problems_of(MODEL_PRICES=raw)
        (problem_of_file,) = problems_of(MODEL_PRICES=str(path))
        assert re.match(rf"MODEL_PRICES .*({reason})", problem)
        assert len(problem) < 500
        assert re.match(rf"MODEL_PRICES .*({reason})", problem_of_file)

    check_rows(BAD_PRICES, check)


def test_an_invalid_file_of_prices_is_one_problem_with_its_reason(tmp_path: Path) -> None:
    rows = [
        ("p.json", b"[]", "at least one model"),
        ("p.json", b"null", "at least one model"),
        ("p.json", b"0.27", "at least one model"),
        ("p.json", b"", "neither JSON"),
        ("p.json", b'"m" = 1', "neither JSON"),
        ("p.json", b"\xff\xfe", "neither JSON"),
        ("p.toml", b"", "at least one model"),
        ("p.toml", b'{"m": 1}', "neither JSON"),
        ("p.toml", b"m = 1\nm = 2", "neither JSON"),
        ("p.toml", b"[m]\ninput = 1\n[m]\noutput = 1", "neither JSON"),
        ("p.toml", b"m = nan", "'m'"),
        ("p.toml", b"m = inf", "'m'"),
        ("p.toml", b"m = 1e99999999999999999999", "exponent"),
        ("p.toml", b"m = -1", "'m'"),
        ("p.toml", b'm = "1"', "'m'"),
        ("p.toml", b"m = true", "'m'"),
        ("p.toml", b"m = 2026-01-01", "'m'"),
        ("p.toml", b"deepseek.v3 = 1", "'deepseek'"),
        ("p.toml", b"m = " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        ("p.toml", b"m = " + b"9" * 5000, ""),
        ("p.toml", b"\xff", "neither JSON"),
        ("p.json", b'{"m": 1}' + b" " * (1 << 20), "more than 1,048,576 characters"),
    ]

    def check(row: tuple[str, bytes, str]) -> None:
        name, content, reason = row
        (tmp_path / name).write_bytes(content)
        (problem,) = problems_of(MODEL_PRICES=str(tmp_path / name))
        assert re.match(rf"MODEL_PRICES .*{reason}", problem)

    check_rows(rows, check)


def test_names_of_up_to_256_characters_are_read() -> None:
    name = "x" * 256
    raw = json.dumps({M: {"input": 1, "output": 1, "upstream": name}, name: 1})

    prices = settings_of(MODEL_PRICES=raw).model_prices

    assert list(prices) == [M, name]
    assert prices[M].upstream_model == name


def test_a_file_without_an_end_or_too_long_is_a_problem_and_not_an_endless_read(tmp_path: Path) -> None:
    assert "not a regular file" in problems_of(MODEL_PRICES="/dev/zero")[0]
    path = tmp_path / "prices.json"
    path.write_text(" " * (1 << 20) + "{}")
    assert "more than 1,048,576 characters" in problems_of(MODEL_PRICES=str(path))[0]


def test_a_file_of_prices_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    assert "No such file" in problems_of(MODEL_PRICES=str(tmp_path / "none.json"))[0]
    assert "directory" in problems_of(MODEL_PRICES=str(tmp_path))[0]
    assert problems_of(MODEL_PRICES="x" * 5000)[0].startswith("MODEL_PRICES ")
