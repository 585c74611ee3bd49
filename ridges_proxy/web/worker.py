"""gunicorn's gevent worker, on which connections that send nothing keep nobody else outside."""

from __future__ import annotations

from typing import Any

from gunicorn.workers.ggevent import GeventWorker

from ridges_proxy.web.waiting import Turn, for_heads


class Worker(GeventWorker):
    """As gunicorn's own, with a limit on connections that wait for a request's head."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gunicorn's
        super().__init__(*args, **kwargs)
        self._heads = for_heads()

    def timeout_ctx(self) -> Turn:  # type: ignore[override] # gunicorn's has no type
        """What gunicorn waits for a head in: by its own, until the keep-alive time is over."""
        return self._heads.turn(self.cfg.keepalive)
