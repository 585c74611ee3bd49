"""Embeddings, parsed vector by vector."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.upstream import NoVectorsError, parsed_vectors
from ridges_proxy.upstream.vectors import MAX_VECTOR_BYTES
from tests.support.table import check_rows

OTHER = [
    b"", b"[", b"[]", b"[1]", b"{}", b'{"error": [[1]]}', b"[[1]", b"[[1],]", b"[[1][2]]", b"[[1]]]",
    b"[[1], 2]", b"[,[1]]", b'[["]"]]', b"[[[1]]]", b"x[[1]]", b"[[1]]x", b"[[NaN]]", b"[[1],[2]],",
]  # fmt: skip

TOO_LONG = b"[[" + b" " * MAX_VECTOR_BYTES + b"1]]"


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False)), min_size=1), st.booleans())
def test_vectors_are_those_of_the_whole_text(vectors: list[list[float]], indented: bool) -> None:  # noqa: FBT001
    text = orjson.dumps(vectors, option=orjson.OPT_INDENT_2 if indented else None)
    assert list(parsed_vectors(text)) == vectors


def test_any_other_text_is_refused() -> None:
    def check(text: bytes) -> None:
        with pytest.raises(NoVectorsError):
            list(parsed_vectors(text))

    check_rows([*OTHER, TOO_LONG], check)
