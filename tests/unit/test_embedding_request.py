from __future__ import annotations

import json
import weakref

from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.billing.embedding_request import EmbeddingRequest
from ridges_proxy.web.schemas.embeddings import Form
from tests.support.table import check_rows

TEXTS: list[tuple[str | list[str], int, int]] = [
    ("abcde", 1, 2),
    (["abcd"], 1, 1),
    (["a", "é" * 4], 2, 1 + 2),
]
"""Texts, their number, and their estimated tokens."""


def test_texts_go_upstream_unchanged_and_each_is_counted() -> None:
    def check(row: tuple[str | list[str], int, int]) -> None:
        texts, count, tokens = row
        embedding = EmbeddingRequest.of(texts, 2)

        (body,) = embedding.bodies
        assert json.loads(body) == {"inputs": texts}
        assert (embedding.counts, Form.of({"input": texts}).tokens) == ((count,), tokens)

    check_rows(TEXTS, check)


@given(st.lists(st.text(), min_size=1, max_size=70), st.integers(1, 70))
def test_a_long_list_goes_into_several_bodies_in_its_order(texts: list[str], batch: int) -> None:
    embedding = EmbeddingRequest.of(texts, batch)

    sent = [json.loads(body)["inputs"] for body in embedding.bodies]
    assert [text for inputs in sent for text in inputs] == texts
    assert tuple(map(len, sent)) == embedding.counts
    assert all(count == batch for count in embedding.counts[:-1])
    assert 1 <= embedding.counts[-1] <= batch


def test_the_request_keeps_no_reference_to_the_texts() -> None:
    class Texts(list[str]):
        """A list that supports weak references."""

    texts = Texts(["a"])
    reference = weakref.ref(texts)
    embedding = EmbeddingRequest.of(texts)
    del texts

    assert embedding.counts == (1,)
    assert reference() is None
