from __future__ import annotations

import pytest

from ridges_proxy.billing.price_list import PriceList
from ridges_proxy.billing.prices import Price
from ridges_proxy.errors import ModelNotSupportedError
from tests.support.table import check_rows

LOW, HIGH = Price(1, 2), Price(30, 40)


def test_a_model_has_its_price_and_the_names_keep_their_order() -> None:
    prices = PriceList({"b": LOW, "a": HIGH})

    assert prices.price_of("a") == HIGH
    assert list(prices.prices) == ["b", "a"]
    assert prices.prices == {"b": LOW, "a": HIGH}


def test_a_model_without_a_price_is_refused_with_the_list_of_priced_models() -> None:
    def check(model: str) -> None:
        with pytest.raises(ModelNotSupportedError) as refused:
            PriceList({"b": LOW, "a": HIGH}).price_of(model)
        assert (refused.value.model, refused.value.supported) == (model, ["b", "a"])

    check_rows(["c", "", "A", " a"], check)


def test_replacing_the_prices_leaves_a_mapping_that_was_read_before_unchanged() -> None:
    prices = PriceList({"a": LOW, "b": LOW})
    before = prices.prices

    prices.replace({"b": HIGH, "c": HIGH})

    assert list(prices.prices) == ["b", "c"]
    assert prices.price_of("b") == HIGH
    with pytest.raises(ModelNotSupportedError):
        prices.price_of("a")
    assert before == {"a": LOW, "b": LOW}
