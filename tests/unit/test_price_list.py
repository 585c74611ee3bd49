from __future__ import annotations

import pytest

from ridges_proxy.billing.price_list import PriceList
from ridges_proxy.billing.prices import Price
from ridges_proxy.errors import ModelNotSupportedError

CHEAP, DEAR = Price(1, 2), Price(30, 40)


def test_a_model_has_its_price_and_the_names_keep_their_order() -> None:
    prices = PriceList({"b": CHEAP, "a": DEAR})

    assert prices.price_of("a") == DEAR
    assert list(prices.prices) == ["b", "a"]
    assert prices.prices == {"b": CHEAP, "a": DEAR}


@pytest.mark.parametrize("model", ["c", "", "A", " a"])
def test_a_model_without_a_price_is_refused_with_those_that_have_one(model: str) -> None:
    with pytest.raises(ModelNotSupportedError) as refused:
        PriceList({"b": CHEAP, "a": DEAR}).price_of(model)

    assert (refused.value.model, refused.value.supported) == (model, ["b", "a"])


def test_prices_are_replaced_as_a_whole_and_a_list_taken_before_stays_as_it_was() -> None:
    prices = PriceList({"a": CHEAP, "b": CHEAP})
    before = prices.prices

    prices.replace({"b": DEAR, "c": DEAR})

    assert list(prices.prices) == ["b", "c"]
    assert prices.price_of("b") == DEAR
    with pytest.raises(ModelNotSupportedError):
        prices.price_of("a")
    assert before == {"a": CHEAP, "b": CHEAP}
