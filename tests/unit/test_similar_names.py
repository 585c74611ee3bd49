"""The similarity of names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.runtime.similar_names import MAX_CHARACTERS, most_similar_first, similarity


@given(st.text(), st.text())
def test_a_similarity_is_symmetric_and_between_0_and_1(name: str, other: str) -> None:
    assert 0 <= similarity(name, other) == similarity(other, name) <= 1
    assert similarity(name, name) == 1


def test_the_similarity_is_the_share_of_equal_pairs() -> None:
    assert similarity("abc", "ABC") == 1
    assert similarity("abc", "xyz") == 0
    assert similarity("ab", "abcd") == 2 * 2 / (3 + 5)  # " a" and "ab"
    assert similarity("a" * 1000, "a") == 2 * 2 / (3 + 2)


def test_only_the_beginning_of_a_long_name_is_compared() -> None:
    assert similarity("ab" * MAX_CHARACTERS, "ab" * MAX_CHARACTERS + "xyz") == 1


def test_the_most_similar_name_is_first_and_equally_similar_ones_keep_their_order() -> None:
    assert most_similar_first("model-b", ["x", "y", "model-a", "model-b"]) == ["model-b", "model-a", "x", "y"]
