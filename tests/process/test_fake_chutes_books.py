"""The records of the fake Chutes: request bodies, and bills by model."""

from __future__ import annotations

import time
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests

from tests.process.fake_chutes_client import KEY, MODEL, PATIENCE_SECONDS, ask, post
from tests.process.fake_chutes_control import directive

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream

BODIES_KEPT = 1000


def test_a_record_has_the_body_without_the_prompt(chutes: Upstream) -> None:
    post(chutes, ask(stream=False, seed=7, stop=["a", "b"], logit_bias={"5": 1}))
    post(chutes, {"inputs": "x", "truncate": True}, "/embed")
    chat, embedding = (call["body"] for call in chutes.calls())
    assert chat == {
        "model": MODEL,
        "stream": False,
        "max_tokens": 100,
        "stream_options": {"include_usage": True},
        "seed": 7,
        "stop": ["a", "b"],
        "logit_bias": {"5": 1},
    }
    assert embedding == {"truncate": True}


def test_a_record_has_the_label_of_its_directive_and_the_time_of_its_arrival(chutes: Upstream) -> None:
    before = time.time()
    post(chutes, ask(content=directive(label="run 7"), stream=False))
    post(chutes, {"inputs": "x"}, "/embed")
    first, second = chutes.calls()
    assert (first["label"], second["label"]) == ("run 7", None)
    assert before <= first["received_at"] <= second["received_at"] <= time.time()


def test_a_record_has_no_body_if_the_request_is_no_json_object(chutes: Upstream) -> None:
    requests.post(f"{chutes.embed_url}", data=b"[]", headers=KEY, timeout=PATIENCE_SECONDS)
    (call,) = chutes.calls()
    assert call["body"] is None


def test_only_the_last_thousand_bodies_are_kept(chutes: Upstream) -> None:
    url = urlsplit(chutes.embed_url)
    assert url.hostname
    # http.client, because 1,002 requests of `requests` take seconds.
    with closing(HTTPConnection(url.hostname, url.port, timeout=PATIENCE_SECONDS)) as connection:
        for _ in range(BODIES_KEPT + 2):
            connection.request("POST", url.path, b'{"inputs": []}', KEY)
            connection.getresponse().read()
    bodies = [call["body"] for call in chutes.calls()]
    assert bodies == [None, None] + [{}] * BODIES_KEPT


def test_the_bills_are_added_up_by_model(chutes: Upstream) -> None:
    for model in ("one", "one", "other"):
        post(chutes, {**ask(stream=False), "model": model})
    post(chutes, {"inputs": "x"}, "/embed")
    bills = chutes.bills()
    assert bills["one"] == 2 * bills["other"] > 0
    assert bills.keys() == {"one", "other", "/embed"}
    assert sum(bills.values()) == chutes.books()["billed_nanousd"]
    chutes.reset()
    assert chutes.bills() == {}
