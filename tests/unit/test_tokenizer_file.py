"""A price that names a tokenizer file: prompts are counted exactly."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from ridges_proxy.billing.chat_request import ChatRequest
from ridges_proxy.billing.exact_counts import TOKENS_PER_ELEMENT, field_texts
from ridges_proxy.billing.price_list import PriceList
from ridges_proxy.billing.rendered_bounds import CALL_BOUND_TOKENS
from ridges_proxy.config import DEFAULT_MODEL, SettingsError
from ridges_proxy.config import tokenizer_file as module
from ridges_proxy.config.tokenizer_file import TokenizerFile
from tests.support.app import settings_of
from tests.support.small_tokenizer import small_tokenizer
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return small_tokenizer(tmp_path)


def prices_with(tokenizer: object) -> str:
    entry = {"input": 1, "output": 2, "tokenizer": tokenizer}
    return orjson.dumps({DEFAULT_MODEL: entry, "same": entry, "other": 1}).decode()


# --- counts ------------------------------------------------------------------------------------------------


def test_texts_are_counted_whole_with_special_tokens_as_text(path: Path) -> None:
    counter = TokenizerFile(str(path))

    assert counter.count(["hello", " world", "hello world", "", "x" * 1000]) == [1, 1, 2, 0, 1000]
    assert counter.count(["<|end|>"]) == [7]
    assert counter.count([]) == []


def test_long_texts_are_counted_in_a_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = TokenizerFile(str(path))
    encode, threads = counter._encode, []

    def recording(texts: list[str]) -> list[int]:
        threads.append(threading.get_ident())
        return encode(texts)

    monkeypatch.setattr(counter, "_encode", recording)

    assert counter.count(["y" * 32_768]) == [32_768]
    assert counter.count(["x" * 20_000, "z" * 20_000]) == [20_000, 20_000]
    counter.count(["é" * 16_385])
    assert threads[0] == threading.get_ident()
    assert threading.get_ident() not in threads[1:]


def test_a_count_is_remembered_and_the_least_recently_used_one_forgotten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    counter = TokenizerFile(str(path))
    counted: list[list[str]] = []
    encode = counter._encode

    def recording(texts: list[str]) -> list[int]:
        counted.append(texts)
        return encode(texts)

    monkeypatch.setattr(counter, "_encode", recording)

    for texts in (["a", "b", "a"], ["a"], ["c"], ["a", "b"]):
        assert counter.count(texts) == [1] * len(texts)

    assert counted == [["a", "b"], ["c"], ["b"]]
    assert len(counter._remembered) == 2


# --- prompts -----------------------------------------------------------------------------------------------


def test_a_prompt_counts_its_tokens_and_the_allowances(path: Path) -> None:
    text = "hello" + " world" * 999
    chat = ChatRequest.of([{"role": "user", "content": text}], {}, 10, counter=TokenizerFile(str(path)))

    assert chat.prompt_tokens == 1000 + 4 + TOKENS_PER_ELEMENT + CALL_BOUND_TOKENS


def test_no_bound_is_larger_than_without_a_tokenizer(path: Path) -> None:
    counter = TokenizerFile(str(path))
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"a": {"b": ["x"] * 50}}}}]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1, 2, "x"]}'}}

    def check(message: dict[str, Any]) -> None:
        for fields in ({}, {"tools": tools}):
            exact = ChatRequest.of([message], fields, 10, counter=counter)
            assert exact.prompt_tokens <= ChatRequest.of([message], fields, 10).prompt_tokens

    check_rows([{"role": "user", "content": ""}, {"role": "assistant", "tool_calls": [call] * 9}], check)


def test_a_nested_field_is_not_written_with_its_indentation() -> None:
    def check(row: tuple[int, bool]) -> None:
        levels, indented = row
        value: Any = {"key": ["text", 1, None], "other": {}}
        for _ in range(levels):
            value = [value]
        ((json_form, _, lines, *others),) = field_texts("tools", value * 50).forms
        assert json_form == json.dumps(value * 50)
        assert lines.split("\n") == ["key", "text", "1", "None", "other"] * 50
        assert bool(others) == indented

    check_rows([(1, True), (3, True), (60, False), (100, False)], check)


def test_only_a_model_whose_price_names_a_tokenizer_has_a_counter(path: Path) -> None:
    prices = PriceList(settings_of(MODEL_PRICES=prices_with(str(path))).model_prices)

    assert isinstance(counter := prices.counter_of(DEFAULT_MODEL), TokenizerFile)
    assert prices.counter_of("same") is counter, "loaded once"
    assert prices.counter_of("other") is None
    assert prices.counter_of("unknown") is None


# --- the setting -------------------------------------------------------------------------------------------


def problem_of(tokenizer: object) -> str:
    with pytest.raises(SettingsError) as raised:
        settings_of(MODEL_PRICES=prices_with(tokenizer))
    (problem,) = raised.value.problems
    return problem


def test_a_tokenizer_that_cannot_be_used_is_a_problem_of_the_settings(tmp_path: Path) -> None:
    broken, folder = tmp_path / "broken.json", tmp_path / "folder"
    broken.write_text('{"version": "1.0"}')
    folder.mkdir()

    def check(row: tuple[object, str]) -> None:
        tokenizer, text = row
        assert text in problem_of(tokenizer)

    rows = [
        (str(tmp_path / "none.json"), "none.json', which cannot be read: No such file or directory"),
        (str(folder), "folder', which cannot be read: Is a directory"),
        (str(broken), "broken.json', which is no tokenizer.json: "),
        ("a\0b", "which cannot be read: embedded null byte"),
        ("", f"has a tokenizer for '{DEFAULT_MODEL}' that is not the path of a file"),
        (5, f"has a tokenizer for '{DEFAULT_MODEL}' that is not the path of a file"),
        (None, f"has a tokenizer for '{DEFAULT_MODEL}' that is not the path of a file"),
    ]
    check_rows(rows, check)


def test_a_missing_package_is_a_problem_of_the_settings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    assert "pip install 'ridges-proxy[tokenizers]'" in problem_of(str(path))


def test_prices_differ_once_a_tokenizer_file_has_changed(path: Path) -> None:
    def read() -> object:
        return settings_of(MODEL_PRICES=prices_with(str(path))).model_prices[DEFAULT_MODEL]

    before = read()
    assert read() == before
    assert hash(read()) == hash(before)

    os.utime(path, (0, 0))
    assert read() == before, "only the content counts"
    path.write_text(path.read_text() + "\n")
    assert read() != before
