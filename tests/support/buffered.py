"""Complete upstream responses for fakes of the Chutes client."""

from __future__ import annotations

from ridges_proxy.upstream.byte_budget import BufferedBody, ByteBudget


def buffered(content: bytes, budget: ByteBudget | None = None) -> BufferedBody:
    """Return a response body that has been read; its bytes count against the budget."""
    body = BufferedBody(budget or ByteBudget(), len(content))
    body.read([content])
    return body
