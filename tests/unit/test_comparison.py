from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.prices import Price
from ridges_proxy.cli.comparison import Verdict, compare
from ridges_proxy.upstream import CatalogModel
from tests.support.table import check_rows

OURS, THEIRS = "the configured price is about", "the upstream's price is about"


def verdict_of(price: Price, offer: CatalogModel) -> Verdict:
    (comparison,) = compare({"m": price}, {"m": offer})
    return comparison.verdict


def test_the_verdict_is_the_worst_of_all_rates() -> None:
    rows = [
        (Price(270, 1100), CatalogModel(270, 1100), Verdict.SAME),
        (Price(0, 0), CatalogModel(0, 0), Verdict.SAME),
        (Price(270, 1100), CatalogModel(271, 1100), Verdict.SAME),
        (Price(271, 1101), CatalogModel(270, 1100), Verdict.SAME),
        (Price(270, 1100), CatalogModel(272, 1100), Verdict.LOWER),
        (Price(270, 1100), CatalogModel(270, 1102), Verdict.LOWER),
        (Price(272, 1100), CatalogModel(270, 1100), Verdict.HIGHER),
        (Price(270, 1102), CatalogModel(270, 1100), Verdict.HIGHER),
        (Price(900, 1000), CatalogModel(270, 1100), Verdict.LOWER),
        (Price(0, 0), CatalogModel(270, 1100), Verdict.LOWER),
        (Price(270, 1100), CatalogModel(0, 0), Verdict.HIGHER),
        (Price(270, 1100), CatalogModel(None, None), Verdict.NO_PRICE),
        (Price(270, 1100), CatalogModel(270, None), Verdict.NO_PRICE),
        (Price(900, 1100), CatalogModel(None, 1100), Verdict.NO_PRICE),
        (Price(100, 1100), CatalogModel(270, None), Verdict.LOWER),
        # A price of cached input counts only if it is configured.
        (Price(270, 1100), CatalogModel(270, 1100, 27), Verdict.SAME),
        (Price(270, 1100, 27), CatalogModel(270, 1100, 27), Verdict.SAME),
        (Price(270, 1100, 20), CatalogModel(270, 1100, 27), Verdict.LOWER),
        (Price(270, 1100, 100), CatalogModel(270, 1100, 27), Verdict.HIGHER),
        (Price(270, 1100, 27), CatalogModel(270, 1100), Verdict.NO_PRICE),
    ]

    def check(row: tuple[Price, CatalogModel, Verdict]) -> None:
        price, offer, verdict = row
        assert verdict_of(price, offer) is verdict

    check_rows(rows, check)


def test_an_alias_is_compared_with_its_upstream_model() -> None:
    catalog = {"org/real": CatalogModel(5, 5), "alias": CatalogModel(90, 90)}

    found = compare({"alias": Price(5, 5, None, "org/real"), "gone": Price(5, 5, None, "none")}, catalog)

    assert [(each.model, each.verdict) for each in found] == [
        ("alias", Verdict.SAME),
        ("gone", Verdict.NOT_OFFERED),
    ]


def test_all_prices_are_compared_in_order_and_other_offers_are_skipped() -> None:
    found = compare({"b": Price(1, 1), "a": Price(1, 1)}, {"a": CatalogModel(1, 1), "c": CatalogModel(1, 1)})

    assert [(each.model, each.verdict) for each in found] == [
        ("b", Verdict.NOT_OFFERED),
        ("a", Verdict.SAME),
    ]


def test_a_price_that_differs_by_about_a_million_is_probably_per_token() -> None:
    rows: list[tuple[Price, CatalogModel, str | None]] = [
        (Price(270, 270), CatalogModel(270_000_000, 270_000_000), OURS),
        (Price(270_000_000, 270_000_000), CatalogModel(270, 270), THEIRS),
        (Price(270, 270), CatalogModel(27_000_000, 27_000_000), OURS),
        (Price(270, 270), CatalogModel(2_700_000_000, 2_700_000_000), OURS),
        (Price(270, 270), CatalogModel(26_999_999, 26_999_999), None),
        (Price(270, 270), CatalogModel(2_700_000_001, 2_700_000_001), None),
        (Price(27_000_000, 27_000_000), CatalogModel(270, 270), THEIRS),
        (Price(270, 270_000_000), CatalogModel(270_000_000, 270_000_000), OURS),
        (Price(5, 270), CatalogModel(5, 270_000_000), OURS),
        (Price(5, 5, 1), CatalogModel(5, 5, 1_000_000), OURS),
        (Price(270, 270), CatalogModel(None, 270_000_000), OURS),
        (Price(270, 270), CatalogModel(None, None), None),
        (Price(0, 0), CatalogModel(270_000_000, 270_000_000), None),
        (Price(270_000_000, 270_000_000), CatalogModel(0, 0), None),
        (Price(0, 0), CatalogModel(0, 0), None),
        (Price(270, 270), CatalogModel(540, 540), None),
    ]

    def check(row: tuple[Price, CatalogModel, str | None]) -> None:
        price, offer, warning = row
        (comparison,) = compare({"m": price}, {"m": offer})
        assert (comparison.unit_warning or "").startswith(warning or "")
        assert bool(comparison.unit_warning) == bool(warning)

    check_rows(rows, check)


rates = st.integers(0, 10**15)


@given(configured=st.builds(Price, rates, rates), published=st.builds(CatalogModel, rates, rates))
def test_a_price_below_the_upstreams_is_never_the_same(configured: Price, published: CatalogModel) -> None:
    assert published.input_nanousd is not None
    assert published.output_nanousd is not None
    low = (
        configured.input_nanousd < published.input_nanousd - 1
        or configured.output_nanousd < published.output_nanousd - 1
    )

    assert (verdict_of(configured, published) is Verdict.LOWER) == low
