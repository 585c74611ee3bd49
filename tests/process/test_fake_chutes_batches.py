"""Batches of the fake Chutes' embedding endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.process.fake_chutes_client import post
from tests.process.row_fixtures import reset
from tests.support.table import each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream


def test_the_largest_batch_is_embedded(chutes: Upstream) -> None:
    assert len(post(chutes, {"inputs": ["x"] * 32}, "/embed").json()) == 32


def test_a_larger_batch_is_413_with_the_embedding_servers_message_and_not_billed(chutes: Upstream) -> None:
    answer = post(chutes, {"inputs": ["x"] * 33}, "/embed")
    assert answer.status_code == 413
    assert answer.json() == {
        "error": "batch size 33 > maximum allowed batch size 32",
        "error_type": "Validation",
    }
    (call,) = chutes.calls()
    assert (call["outcome"], call["billed_nanousd"]) == ("refused", 0)


@each_row("inputs", [[], None, [1], {}], before={"chutes": reset})
def test_missing_or_invalid_inputs_are_422(chutes: Upstream, inputs: object) -> None:
    assert post(chutes, {"inputs": inputs}, "/embed").status_code == 422
