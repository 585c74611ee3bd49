"""Property tests: any text is a valid setting, or is refused with the setting's name."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.config import Settings, SettingsError, load_settings
from tests.support.app import environ_of

if TYPE_CHECKING:
    import pytest

NAMES = [field.metadata["name"] for field in dataclasses.fields(Settings)]

FRAGMENTS = st.sampled_from(
    ["-1", "0", "1e9", "nan", "inf", "١٢", "0x10", "1_000", " 5 ", "memory://", "redis://", "sqlite:///",
     "http://[::1",
     "a@b", "\u0000", "\ud800", "::/0", "0.0.0.0/0", "*", "{}", "[]", '{"a": 1}', "true", "10/second", "1/0",
     "/dev/null"]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=40), FRAGMENTS, st.lists(FRAGMENTS, max_size=4).map(",".join))

LEAVES: Any = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
PRICES = st.dictionaries(
    st.text(max_size=8),
    st.one_of(
        LEAVES,
        st.dictionaries(st.sampled_from(["input", "output", "cached_input", "upstream", "else"]), LEAVES),
        st.lists(LEAVES, max_size=2),
    ),
    max_size=4,
)

BUDGETS = st.lists(
    st.dictionaries(
        st.sampled_from(["name", "usd", "window", "zone", "group", "model", "kind", "else"]),
        LEAVES | st.sampled_from(["a", "day", "UTC", "miner:*", "inference", 1]),
    )
    | LEAVES,
    max_size=4,
)


def read(**values: str) -> Settings | None:
    """Return the settings, None if they were refused. Each problem must begin with a setting's name."""
    problems: list[str] = []
    found = None
    try:
        found = load_settings(Settings, environ_of(**values))
    except SettingsError as error:
        problems = error.problems
    assert bool(problems) == (found is None)
    assert all(problem.split(" ", 1)[0].strip(":,") in NAMES for problem in problems), problems
    return found


@given(st.sampled_from(NAMES), TEXTS)
def test_any_text_is_a_setting_or_is_refused_with_its_name(name: str, text: str) -> None:
    read(**{name: text})


@given(st.dictionaries(st.sampled_from(NAMES), TEXTS, max_size=6))
def test_several_texts_are_settings_or_are_refused_with_their_names(values: dict[str, str]) -> None:
    read(**values)


@given(PRICES)
def test_any_json_is_a_price_list_or_is_refused_with_the_setting(prices: dict[str, Any]) -> None:
    found = read(MODEL_PRICES=json.dumps(prices))
    if found is not None:
        assert set(found.model_prices) == set(prices)
        assert all(
            price.input_nanousd >= 0 and price.output_nanousd >= 0 for price in found.model_prices.values()
        )


@given(BUDGETS, st.sampled_from([None, "budgets"]))
def test_any_json_is_a_list_of_budgets_or_is_refused_with_the_setting(
    budgets: list[Any], key: str | None
) -> None:
    found = read(BUDGETS=json.dumps({key: budgets} if key else budgets))
    if found is not None:
        assert [budget.name for budget in found.budgets] == [entry["name"] for entry in budgets]
        assert all(budget.amount_nanousd > 0 for budget in found.budgets)


@given(st.binary(max_size=200), st.sampled_from(["prices.json", "prices.toml"]))
def test_any_file_is_a_price_list_or_is_refused_with_the_setting(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("prices") / name
    path.write_bytes(data)
    read(MODEL_PRICES=str(path))
