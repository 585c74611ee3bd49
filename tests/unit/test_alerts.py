"""When alerts are claimed, logged, sent again and given up."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import gevent
import pytest
from gevent.event import Event

from ridges_proxy.calls.alerts import LEASE_SECONDS, MAX_AGE_SECONDS, POST_SECONDS, AlertDelivery, sender_of
from ridges_proxy.errors import UpstreamFailedError, UpstreamTimeoutError
from ridges_proxy.ledger.alert_lease import MAX_LEASE_SECONDS, lease_seconds_of
from ridges_proxy.telemetry.metrics import Metrics
from ridges_proxy.upstream.body_reader import DRAIN_SECONDS
from ridges_proxy.upstream.webhook import TOTAL_TIMEOUT_SECONDS
from tests.support.alert_store import AlertStore, alert_of
from tests.support.clock import Clock

if TYPE_CHECKING:
    from ridges_proxy.ledger import Alert

PATIENCE_SECONDS = 5.0
DAY_SECONDS = 86_400.0


class Receiver:
    """Takes alerts unless it has an error to raise."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.sent: list[str] = []

    def send(self, alert: Alert) -> None:
        self.sent.append(alert.id)
        if self.error:
            raise self.error


class Process:
    """One of several processes with the same store. Without a receiver it has no webhook."""

    def __init__(self, store: AlertStore, clock: Clock, receiver: Receiver | None) -> None:
        self.metrics = Metrics()
        send = None if receiver is None else receiver.send
        self.delivery = AlertDelivery(store, self.metrics, send, clock=clock, monotonic=clock)

    def second(self) -> None:
        """Do what a second brings, to its end."""
        if delivering := self.delivery.deliver():
            delivering.get(timeout=PATIENCE_SECONDS)

    def counted(self) -> dict[str, float]:
        """The counters of alerts that are not 0, by name and labels."""
        lines = [line for line in self.metrics.text().decode().splitlines() if "alert" in line]
        values = dict(line.rsplit(" ", 1) for line in lines if "_total" in line and line[0] != "#")
        return {name: float(value) for name, value in values.items() if float(value)}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def test_alerts_are_delivered_in_their_order_and_deleted(clock: Clock, receiver: Receiver) -> None:
    store = AlertStore(clock, *map(alert_of, range(5)))
    process = Process(store, clock, receiver)
    process.second()
    assert receiver.sent == [f"alert-{number}" for number in range(5)]
    assert store.kept() == []
    assert process.counted() == {
        'ridges_budget_alerts_total{budget="miner",percent="80"}': 5,
        'ridges_alert_posts_total{result="ok"}': 5,
    }


def test_each_crossing_is_logged_once_over_all_tries_and_processes(
    clock: Clock, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.error = UpstreamTimeoutError()
    store = AlertStore(clock, alert_of(1))
    processes = [Process(store, clock, receiver) for _ in range(2)]
    for _ in range(3):
        for process in processes:
            process.second()
        clock.advance(store.next_claim_seconds())
    (line,) = [record for record in caplog.records if record.message == "budget alert"]
    assert line.levelno == logging.WARNING
    names = ("alert", "budget", "scope", "period", "percent", "spent_usd", "amount_usd")
    assert {name: line.__dict__[name] for name in names} == {
        "alert": "alert-1",
        "budget": "miner",
        "scope": "group:miner:7",
        "period": "day 2026-11-30",
        "percent": 80,
        "spent_usd": 4.01,
        "amount_usd": 5.0,
    }
    counted = [name for process in processes for name in process.counted() if "budget" in name]
    assert (len(receiver.sent), len(counted)) == (3, 1)


def test_without_a_webhook_an_alert_is_logged_counted_and_deleted(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = AlertStore(clock, alert_of(1), alert_of(2))
    process = Process(store, clock, None)
    process.second()
    assert (store.kept(), logged(caplog)) == ([], ["budget alert"] * 2)
    assert process.counted() == {'ridges_budget_alerts_total{budget="miner",percent="80"}': 2}


def test_the_pauses_between_the_tries_double_up_to_ten_minutes_until_the_alert_is_a_day_old(
    clock: Clock, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.error = UpstreamFailedError(500)
    store = AlertStore(clock, alert_of(1, at=clock()))
    process = Process(store, clock, receiver)
    pauses: list[float] = []
    process.second()
    while store.kept():
        pauses.append(store.next_claim_seconds())
        clock.advance(pauses[-1] - 1)
        process.second()  # nothing is due
        assert len(receiver.sent) == len(pauses)
        clock.advance(1)
        process.second()
    assert pauses[:8] == [15, 30, 60, 120, 240, 480, 600, 600]
    assert DAY_SECONDS <= sum(pauses) < DAY_SECONDS + MAX_LEASE_SECONDS
    assert caplog.records[-1].levelno == logging.ERROR
    assert "given up" in caplog.records[-1].message
    assert process.counted() == {
        'ridges_budget_alerts_total{budget="miner",percent="80"}': 1,
        'ridges_alert_posts_total{result="failed"}': len(pauses),
        "ridges_alerts_expired_total": 1,
    }


def test_the_same_failure_is_logged_once_until_the_next_success(
    clock: Clock, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(AlertStore(clock, *map(alert_of, range(4))), clock, receiver)
    for error in (UpstreamFailedError(500), UpstreamFailedError(500), UpstreamFailedError(301), None):
        receiver.error = error
        process.second()
        assert process.metrics.totals().webhook_fails == (error is not None)
        assert f"ridges_webhook_fails {0.0 if error is None else 1.0}\n" in process.metrics.text().decode()
    lines = [record for record in caplog.records if record.message != "budget alert"]
    assert [record.__dict__.get("error") for record in lines] == ["status 500", "status 301"]
    with caplog.at_level(logging.INFO):
        receiver.error = UpstreamTimeoutError()
        clock.advance(MAX_LEASE_SECONDS)
        process.second()
        receiver.error = None
        clock.advance(MAX_LEASE_SECONDS)
        process.second()
    assert [record.__dict__.get("error") for record in caplog.records[-2:]] == ["timeout", None]
    assert logged(caplog)[-1] == "the webhook takes alerts again"


def test_an_alert_that_cannot_be_deleted_is_not_sent_again_by_its_process(
    clock: Clock, receiver: Receiver
) -> None:
    store = AlertStore(clock, alert_of(1), alert_of(2))
    process = Process(store, clock, receiver)

    def take_and_lose_the_ledger(alert: Alert) -> None:
        Receiver.send(receiver, alert)
        store.up = False

    process.delivery._send = take_and_lose_the_ledger
    process.second()
    process.second()
    clock.advance(LEASE_SECONDS)  # the claim has ended, but the deletion comes before the next one
    store.up = True
    process.second()
    assert receiver.sent == ["alert-1", "alert-2"]
    assert store.kept() == ["alert-2"]


def test_a_claim_that_took_long_is_left_to_its_end(clock: Clock, receiver: Receiver) -> None:
    store = AlertStore(clock, alert_of(1))
    process = Process(store, clock, receiver)
    store.claim_seconds = LEASE_SECONDS - POST_SECONDS + 0.1
    process.second()
    assert (receiver.sent, store.kept()) == ([], ["alert-1"])
    store.claim_seconds = 0.1
    clock.advance(LEASE_SECONDS)
    process.second()
    assert (receiver.sent, store.kept()) == (["alert-1"], [])


def test_no_claim_ends_during_a_post() -> None:
    assert TOTAL_TIMEOUT_SECONDS + DRAIN_SECONDS < POST_SECONDS < LEASE_SECONDS
    assert all(lease_seconds_of(LEASE_SECONDS, attempts) >= LEASE_SECONDS for attempts in range(2_000))


def test_nothing_waits_for_a_receiver_that_hangs_and_no_second_post_is_started(clock: Clock) -> None:
    hangs, answers, posts = Event(), Event(), [0]

    class Hanging(Receiver):
        def send(self, alert: Alert) -> None:
            posts[0] += 1
            hangs.set()
            assert answers.wait(PATIENCE_SECONDS)
            super().send(alert)

    receiver = Hanging()
    process = Process(AlertStore(clock, alert_of(1), alert_of(2)), clock, receiver)
    delivering = process.delivery.deliver()
    assert delivering is not None
    assert hangs.wait(PATIENCE_SECONDS)
    assert process.delivery.deliver() is None
    assert posts == [1]
    process.delivery.stop()
    assert not delivering.dead
    answers.set()
    delivering.join(PATIENCE_SECONDS)
    assert (receiver.sent, process.delivery.deliver()) == (["alert-1"], None)


def test_no_error_prevents_the_deliveries_after_it(
    clock: Clock, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    store = AlertStore(clock, alert_of(1, resets_at=1e300), alert_of(2))
    webhook = type("Webhook", (), {"post": lambda _, alert_id, _body: receiver.sent.append(alert_id)})()
    process = Process(store, clock, receiver)
    process.delivery._send = sender_of(webhook, "json")
    process.second()  # the time of the first one's reset cannot be written
    assert "alerts were not delivered" in logged(caplog)
    store.up = False
    process.second()
    store.up = True
    process.second()
    assert receiver.sent == ["alert-2"]


def test_a_killed_process_leaves_its_alert_to_the_others(clock: Clock, receiver: Receiver) -> None:
    store = AlertStore(clock, alert_of(1))
    hangs = Event()

    def hang(_: Alert) -> None:
        hangs.set()
        Event().wait(PATIENCE_SECONDS)

    killed, other = Process(store, clock, receiver), Process(store, clock, receiver)
    killed.delivery._send = hang
    delivering = killed.delivery.deliver()
    assert delivering is not None
    assert hangs.wait(PATIENCE_SECONDS)
    gevent.kill(delivering)
    other.second()
    assert receiver.sent == []
    clock.advance(LEASE_SECONDS)
    other.second()
    assert (receiver.sent, store.kept()) == (["alert-1"], [])
    assert MAX_AGE_SECONDS == DAY_SECONDS
