from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.fake_chutes_client import post

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream


def test_as_many_inputs_as_a_batch_takes_are_embedded(chutes: Upstream) -> None:
    assert len(post(chutes, {"inputs": ["x"] * 32}, "/embed").json()) == 32


def test_one_more_is_413_in_words_of_the_embedding_server_and_free(chutes: Upstream) -> None:
    answer = post(chutes, {"inputs": ["x"] * 33}, "/embed")
    assert answer.status_code == 413
    assert answer.json() == {
        "error": "batch size 33 > maximum allowed batch size 32",
        "error_type": "Validation",
    }
    (call,) = chutes.calls()
    assert (call["outcome"], call["billed_nanousd"]) == ("refused", 0)


@pytest.mark.parametrize("inputs", [[], None, [1], {}])
def test_no_inputs_or_strange_ones_are_422(chutes: Upstream, inputs: object) -> None:
    assert post(chutes, {"inputs": inputs}, "/embed").status_code == 422
