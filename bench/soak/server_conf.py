"""The server's own configuration, and a greenlet that counts what is alive when a file asks for it."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

with Path("gunicorn.conf.py").open(encoding="utf-8") as _own:
    exec(compile(_own.read(), "gunicorn.conf.py", "exec"))

import gevent
from greenlet import greenlet

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

_start = globals()["post_worker_init"]
_asked = Path(os.environ["SOAK_FOLDER"]) / "count"


def post_worker_init(worker: Worker) -> None:
    """As the service, and count greenlets beside."""
    gevent.spawn(_count)
    _start(worker)


def _count() -> None:
    """To look through all objects takes long: only once the load is off, when nobody watches the hub."""
    while True:
        gevent.sleep(0.2)
        if _asked.exists():
            gc.collect()
            alive = sum(isinstance(each, greenlet) and not each.dead for each in gc.get_objects())
            _asked.with_suffix(".told").write_text(f"{alive} {sys.getallocatedblocks()}\n")
            _asked.unlink()
