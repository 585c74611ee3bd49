"""Digests of settings: equal for equal values, different for every change, without any value."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from ridges_proxy.config import DEFAULT_MODEL, Settings, budget_text
from ridges_proxy.config.digests import differing, digests_of
from ridges_proxy.config.price_text import from_text, to_text
from tests.support.app import settings_of
from tests.support.small_tokenizer import small_tokenizer
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path

KEY = "key-of-the-digests"


def changed(**settings: str) -> list[str]:
    """The names of the settings whose digests change with these settings."""
    return differing(digests_of(settings_of(), KEY), digests_of(settings_of(**settings), KEY))


def test_every_setting_has_a_digest_and_none_without_a_change() -> None:
    names = {field.metadata["name"] for field in dataclasses.fields(Settings)} - {"PROXY_URL"}
    assert digests_of(settings_of(), KEY).keys() == names
    assert changed() == []
    assert changed(REQUIRE_RUN_TOKENS="no", DEADLINE_SECONDS="300.0", ALLOWED_IPS=" ") == [], (
        "the same values"
    )


def test_a_changed_value_changes_the_digest_of_its_setting_only() -> None:
    rows = [
        ("PORT", "1"),
        ("CHUTES_API_KEY", "another"),
        ("ALLOWED_IPS", "10.0.0.0/8"),
        ("RATE_LIMIT_PER_RUN", "off"),
        ("RATE_LIMIT_PER_IP", "5/minute"),
        ("CORS_ORIGINS", "https://a.example"),
        ("BUDGETS", '[{"name": "all", "usd": 1, "window": "day"}]'),
        ("MODEL_PRICES", json.dumps({DEFAULT_MODEL: 0.28})),
        ("MODEL_PRICES", json.dumps({DEFAULT_MODEL: {"input": 0.27, "output": 0.27, "context_length": 9}})),
    ]

    def check(row: tuple[str, str]) -> None:
        name, value = row
        assert changed(**{name: value}) == [name]

    check_rows(rows, check)


def test_files_count_by_their_content(tmp_path: Path) -> None:
    tokenizer = small_tokenizer(tmp_path)
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({DEFAULT_MODEL: {"input": 1, "output": 1, "tokenizer": str(tokenizer)}}))

    def digest() -> str:
        return digests_of(settings_of(MODEL_PRICES=str(prices)), KEY)["MODEL_PRICES"]

    before = digest()
    assert digest() == before
    tokenizer.write_text(tokenizer.read_text() + "\n")
    with_other_tokenizer = digest()
    prices.write_text(prices.read_text().replace(": 1,", ": 2,"))
    assert len({before, with_other_tokenizer, digest()}) == 3


def test_a_file_of_budgets_counts_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "budgets.json"
    entry = {"name": "all", "usd": 1, "window": "day"}

    def digest(raw: str, **changes: object) -> str:
        path.write_text(json.dumps([{**entry, **changes}]))
        return digests_of(settings_of(BUDGETS=raw), KEY)["BUDGETS"]

    assert digest(str(path)) == digest(str(path), usd="1.0") == digest(json.dumps([entry]))
    assert len({digest(str(path)), digest(str(path), usd=2), digest(str(path), zone="Asia/Tokyo")}) == 3


def test_without_a_common_key_nothing_can_be_compared() -> None:
    settings = settings_of()
    assert differing(digests_of(settings, "one"), digests_of(settings, "other")) == ["ADMIN_API_KEY"]


def test_prices_survive_the_way_to_a_worker(tmp_path: Path) -> None:
    entry = {"input": 1, "output": 2.5, "cached_input": 0.1, "upstream": "a/é", "context_length": 8}
    table = {DEFAULT_MODEL: {**entry, "tokenizer": str(small_tokenizer(tmp_path))}, "b": 0.000000001}
    prices = settings_of(MODEL_PRICES=json.dumps(table)).model_prices

    again = from_text(to_text(prices), {})

    assert list(again.items()) == list(prices.items())
    assert from_text(to_text(prices), again)[DEFAULT_MODEL].tokenizer is again[DEFAULT_MODEL].tokenizer


def test_budgets_survive_the_way_to_a_worker() -> None:
    entry = {"name": "b", "usd": 0.000000001, "window": "week", "zone": "Asia/Kolkata", "group": "a:*"}
    entries = [
        {"name": "all", "usd": 1, "window": "day"},
        {**entry, "model": DEFAULT_MODEL, "kind": "inference"},
    ]
    budgets = settings_of(BUDGETS=json.dumps(entries)).budgets
    assert budget_text.from_text(budget_text.to_text(budgets)) == budgets
