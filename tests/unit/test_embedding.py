from __future__ import annotations

import json
import weakref
from typing import Any

import pytest

from ridges_proxy.billing.embedding_request import EmbeddingRequest
from ridges_proxy.web.schemas.embeddings import Form


@pytest.mark.parametrize(
    ("texts", "count", "tokens"), [("abcde", 1, 2), (["abcd"], 1, 1), (["a", "é" * 4], 2, 1 + 2)]
)
def test_texts_go_upstream_as_they_came_and_are_counted_each(texts: Any, count: int, tokens: int) -> None:  # noqa: ANN401 - both forms
    embedding = EmbeddingRequest.of(texts)

    assert json.loads(embedding.body) == {"inputs": texts}
    assert (embedding.count, Form.of({"input": texts}).tokens) == (count, tokens)
    assert Form.of({"input": texts}).vectors == count


def test_the_texts_are_let_go_of() -> None:
    class Texts(list[str]):
        """A list that can be watched."""

    texts = Texts(["a"])
    watched = weakref.ref(texts)
    embedding = EmbeddingRequest.of(texts)
    del texts

    assert embedding.count == 1
    assert watched() is None
