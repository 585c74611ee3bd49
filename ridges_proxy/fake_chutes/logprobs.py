"""How sure the model claims to be: log probabilities, as OpenAI's API writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .answer import Piece

LOGPROB = -0.25
STEP = 1.5  # how much less likely each alternative is


def logprobs(pieces: Iterable[Piece], top: int) -> dict[str, Any] | None:
    """Return what the content's tokens get, with so many alternatives each; None without content."""
    tokens = [piece.delta["content"] for piece in pieces if piece.delta.get("content")]
    return {"content": [_token(token, top) for token in tokens]} if tokens else None


def _token(token: str, top: int) -> dict[str, Any]:
    others = [_rated(token + "?" * rank, LOGPROB - STEP * rank) for rank in range(top)]
    return {**_rated(token, LOGPROB), "top_logprobs": others}


def _rated(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
