"""Flask's application, with what is known of all our views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask

if TYPE_CHECKING:
    from collections.abc import Callable


class Service(Flask):
    """An application without coroutines."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function: to look whether it is a coroutine took 10 µs a request, for eight of them."""
        return func
