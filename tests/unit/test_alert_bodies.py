from __future__ import annotations

import json

from ridges_proxy.calls.alert_bodies import BODIES, json_body, slack_body, text_of
from tests.support.alert_store import alert_of
from tests.support.table import each_row

AT = 1_796_047_509.25


def test_the_body_in_json_names_the_budget_the_share_and_the_amounts() -> None:
    assert json.loads(json_body(alert_of(1, AT))) == {
        "type": "budget.threshold_reached",
        "timestamp": "2026-11-30T14:05:09.250+00:00",
        "data": {
            "id": "alert-1",
            "budget": "miner",
            "scope": "group:miner:7",
            "window": "day",
            "period": "day 2026-11-30",
            "percent": 80,
            "amount_usd": 5.0,
            "spent_usd": 4.01,
            "resets_at": "2026-12-01T00:00:00.000+00:00",
            "text": "Budget miner has reached 80 %: 4.01 of 5 USD (group:miner:7, day 2026-11-30),"
            " until 2026-12-01 00:00 UTC.",
        },
    }


def test_a_budget_that_never_resets_has_no_time_of_a_reset() -> None:
    run = alert_of(1, AT, budget="run", scope="my-run", period="lifetime", resets_at=None)
    data = json.loads(json_body(run))["data"]
    assert (data["window"], data["period"], data["resets_at"]) == ("lifetime", "lifetime", None)
    assert data["text"] == "Budget run has reached 80 %: 4.01 of 5 USD (my-run, lifetime)."


@each_row(
    ("amount_nanousd", "shown"),
    [
        (1, "0.000000001"),
        (100_000_000_000, "100"),
        (1_000_000_000_000_000, "1000000"),
        (999_999_999_999_999, "999999.999999999"),
    ],
)
def test_the_text_has_exact_amounts(amount_nanousd: int, shown: str) -> None:
    text = text_of(alert_of(1, AT, amount_nanousd=amount_nanousd, spent_nanousd=amount_nanousd))
    assert f": {shown} of {shown} USD (" in text


def test_the_text_says_that_a_call_was_refused_if_less_is_spent_than_the_share() -> None:
    share, refused = alert_of(1, AT, spent_nanousd=4_000_000_000), alert_of(1, AT, percent=100)
    assert "has reached 80 %: 4 of 5 USD (" in text_of(share)
    assert "has reached 100 %: 4.01 of 5 USD, and a call was refused (" in text_of(refused)
    nearly = alert_of(1, AT, spent_nanousd=3_999_999_999)
    assert "has reached 80 %: 3.999999999 of 5 USD, and a call was refused (" in text_of(nearly)


def test_a_body_does_not_change_from_one_try_to_the_next() -> None:
    for body_of in BODIES.values():
        assert body_of(alert_of(1, AT, attempts=0)) == body_of(alert_of(1, AT, attempts=9))


def test_no_name_becomes_a_link_or_a_mention_in_slack() -> None:
    """Slack asks for these three characters, and only these, to be escaped."""
    message = json.loads(slack_body(alert_of(1, AT, scope='<!channel> & "<http://evil|x>"')))
    assert list(message) == ["text"]
    assert '(&lt;!channel&gt; &amp; "&lt;http://evil|x&gt;", day 2026-11-30)' in message["text"]
