"""`Retry-After` of an upstream, by RFC 9110, sections 10.2.3 and 5.6.7."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.upstream.retry_after import MAX_RETRY_AFTER_SECONDS, retry_after_seconds
from tests.support.table import check_rows

NOW = datetime(1994, 11, 6, 8, 49, 0, tzinfo=UTC)
DATE = "Sun, 06 Nov 1994 08:48:50 GMT"
"""The `Date` of the response, 10 s before NOW: the upstream's clock is behind."""


def test_a_time_is_read_in_every_form_and_bounded() -> None:
    rows: list[tuple[str | None, str | None, int | None]] = [
        ("37", None, 37),
        (" 37\t", None, 37),
        ("037", None, 37),
        ("0", None, 1),
        ("1", None, 1),
        ("60", None, 60),
        ("61", None, 60),
        ("86400", None, 60),
        ("9" * 64, None, 60),
        ("1.5", None, 2),
        ("0.2", None, 1),
        ("37.", None, 37),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None, 37),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None, 37),
        ("Sun Nov  6 08:49:37 1994", None, 37),
        ("Sun, 06 Nov 1994 10:49:37 +0200", None, 37),
        ("Sun, 06 Nov 1994 08:49:37 GMT", DATE, 47),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "yesterday", 37),
        ("Sun, 06 Nov 1994 08:48:00 GMT", None, 1),
        ("Sun, 06 Nov 1994 09:49:37 GMT", None, 60),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None, 60),
        (None, DATE, None),
        ("", None, None),
        ("soon", None, None),
        ("-1", None, None),
        ("+5", None, None),
        ("1e3", None, None),
        ("0x10", None, None),
        ("5, 37", None, None),
        ("5 s", None, None),
        ("NaN", None, None),
        ("\u0665", None, None),
        ("9" * 5_000, None, None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None, None),
        ("Sun, 06 Nov 1994", None, None),
    ]

    def check(row: tuple[str | None, str | None, int | None]) -> None:
        value, date, expected = row
        assert retry_after_seconds(value, date, NOW) == expected

    check_rows(rows, check)


@given(value=st.none() | st.text(max_size=40), date=st.none() | st.text(max_size=40))
def test_any_header_has_a_time_within_the_bounds_or_none(value: str | None, date: str | None) -> None:
    seconds = retry_after_seconds(value, date, NOW)
    assert seconds is None or 1 <= seconds <= MAX_RETRY_AFTER_SECONDS
