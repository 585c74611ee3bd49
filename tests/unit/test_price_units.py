from __future__ import annotations

import json

from ridges_proxy.billing.price_units import models_priced_per_token
from ridges_proxy.config.model_prices import read_prices
from tests.support.table import check_rows

PRICES: list[tuple[object, bool]] = [
    (0.000000001, True),
    (0.00000027, True),
    (0.0006, True),
    (0.000999999, True),
    (0.001, False),
    (0.27, False),
    (0, False),
    ({"input": 0.27, "output": 0.0000011}, True),
    ({"input": 0.00000027, "output": 1.1}, True),
    ({"input": 0, "output": 0.001}, False),
    ({"input": 0.005, "output": 0.01, "cached_input": 0.0005}, False),
]


def test_a_price_above_0_and_below_a_thousandth_of_a_dollar_seems_to_be_per_token() -> None:
    def check(row: tuple[object, bool]) -> None:
        price, expected = row
        prices = read_prices(json.dumps({"usual": 1, "m": price}))
        assert models_priced_per_token(prices) == (["m"] if expected else [])

    check_rows(PRICES, check)
