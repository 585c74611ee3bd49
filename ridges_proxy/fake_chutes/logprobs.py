"""Log probabilities in the form of OpenAI's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .answer import Piece

LOGPROB = -0.25
STEP = 1.5  # each alternative is less likely by this


def logprobs(pieces: Iterable[Piece], top: int) -> dict[str, Any] | None:
    """Return the log probabilities of the content tokens, with `top` alternatives each."""
    tokens = [piece.delta["content"] for piece in pieces if piece.delta.get("content")]
    return {"content": [_token(token, top) for token in tokens]} if tokens else None


def _token(token: str, top: int) -> dict[str, Any]:
    others = [_rated(token + "?" * rank, LOGPROB - STEP * rank) for rank in range(top)]
    return {**_rated(token, LOGPROB), "top_logprobs": others}


def _rated(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
