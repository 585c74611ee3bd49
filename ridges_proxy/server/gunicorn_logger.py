from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import Logger

if TYPE_CHECKING:
    from gunicorn.config import Config


class GunicornLogger(Logger):
    """Gunicorn's own lines, in the form of the service's, and without what they quote of a request."""

    def setup(self, cfg: Config) -> None:
        """Let our handlers, whatever they are set to, write what gunicorn has to say."""
        super().setup(cfg)
        self.error_log = logging.getLogger("ridges_proxy.gunicorn")
        self.error_log.handlers.clear()
        self.error_log.setLevel(self.loglevel)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - as logging has it
        """Leave out what could not be parsed: it may be part of a prompt, or a key."""
        text = str(msg)
        if text.startswith("Invalid request from ip="):
            msg = text.partition(": ")[0]
        super().warning(msg, *args, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 - as logging has it
        """A client's slowness is no error of ours."""
        if isinstance(sys.exc_info()[1], TimeoutError):
            super().warning("a client did not take its answer in time")
        else:
            super().exception(msg, *args, **kwargs)
