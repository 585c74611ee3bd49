"""The limit on refused requests, by their bytes.

Reading and checking them takes time that no budget pays for.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from ridges_proxy.errors import RefusedError
from ridges_proxy.web.callers import address_key
from ridges_proxy.web.request_state import request_state
from ridges_proxy.web.run_context import HEADER_KEY
from ridges_proxy.web.transport.request_reader import BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.calls.call import Call
    from ridges_proxy.errors import ProxyError
    from ridges_proxy.web.request_state import RequestState


def classes_of(base: type[ProxyError]) -> Iterator[type[ProxyError]]:
    """A class of errors and all its subclasses."""
    yield base
    for each in base.__subclasses__():
        yield from classes_of(each)


COUNTED_CODES = frozenset(
    each.code for each in classes_of(RefusedError) if each.status != HTTPStatus.TOO_MANY_REQUESTS
)
"""The codes of requests that the caller must correct. Those that may only come later do not count."""


def caller_key(state: RequestState) -> str:
    """The caller, before the body is read: the run of its token or of its header, else its address."""
    token = state.run_token
    run_id: str | None = state.request.environ.get(HEADER_KEY) if token is None else token.run_id
    return run_id or address_key(state)


def count_refused(code: str, call: Call | None) -> None:
    """Count the bytes of a request that was refused with this code. Those of operators have no limit."""
    state = request_state()
    size_bytes = state.request.environ.get(BODY_BYTES)
    if size_bytes and code in COUNTED_CODES and "run_token" in state:
        state.services.refused_bytes.add(caller_key(state) if call is None else call.run.id, size_bytes)
