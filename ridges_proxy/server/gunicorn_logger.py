"""Gunicorn's logger, in the format of the service's log lines."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import Logger

if TYPE_CHECKING:
    from gunicorn.config import Config


class GunicornLogger(Logger):
    """Logs gunicorn's messages through the service's handlers, without the parts that quote a request."""

    def setup(self, cfg: Config) -> None:
        """Use the handlers of the `ridges_proxy` logger instead of gunicorn's."""
        super().setup(cfg)
        self.error_log = logging.getLogger("ridges_proxy.gunicorn")
        self.error_log.handlers.clear()
        self.error_log.setLevel(self.loglevel)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - the signature of logging
        """Log a warning without the data that could not be parsed: it may be part of a prompt, or a key."""
        text = str(msg)
        if text.startswith("Invalid request from ip="):
            msg = text.partition(": ")[0]
        super().warning(msg, *args, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - the signature of logging
        """Log an exception; for a client that is too slow, only a warning."""
        if isinstance(sys.exc_info()[1], TimeoutError):
            super().warning("a client did not read its answer in time")
        else:
            super().exception(msg, *args, **kwargs)
