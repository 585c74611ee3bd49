from __future__ import annotations

import json
import weakref

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
        embedding = EmbeddingRequest.of(texts)

        assert json.loads(embedding.body) == {"inputs": texts}
        assert (embedding.count, Form.of({"input": texts}).tokens) == (count, tokens)
        assert Form.of({"input": texts}).vectors == count

    check_rows(TEXTS, check)


def test_the_request_keeps_no_reference_to_the_texts() -> None:
    class Texts(list[str]):
        """A list that supports weak references."""

    texts = Texts(["a"])
    reference = weakref.ref(texts)
    embedding = EmbeddingRequest.of(texts)
    del texts

    assert embedding.count == 1
    assert reference() is None
