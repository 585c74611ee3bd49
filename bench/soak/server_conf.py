"""The proxy's gunicorn settings, and a greenlet that counts live objects when the benchmark asks for it."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

with Path("gunicorn.conf.py").open(encoding="utf-8") as _file:
    exec(compile(_file.read(), "gunicorn.conf.py", "exec"))

import gevent
from greenlet import greenlet

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

_service_post_worker_init = globals()["post_worker_init"]
_count_request = Path(os.environ["SOAK_FOLDER"]) / "count"


def post_worker_init(worker: Worker) -> None:
    """Start the counting greenlet, then do what the service does."""
    gevent.spawn(_answer_count_requests)
    _service_post_worker_init(worker)


def _answer_count_requests() -> None:
    """Count when the file appears. The count blocks the hub, so it is asked for only without load."""
    while True:
        gevent.sleep(0.2)
        if _count_request.exists():
            gc.collect()
            greenlets = sum(isinstance(each, greenlet) and not each.dead for each in gc.get_objects())
            _count_request.with_suffix(".result").write_text(f"{greenlets} {sys.getallocatedblocks()}\n")
            _count_request.unlink()
