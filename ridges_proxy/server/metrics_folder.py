"""The folder where the workers of one server share their metrics."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ridges_proxy.runtime.shared_memory import OwnedFolder, make_folder

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
METRICS_PREFIX = "ridges-metrics"

logger = logging.getLogger(__name__)


def share_metrics() -> None:
    """Give the workers one folder for their metrics.

    Each master makes one. A reload runs this again in the same master. The environment may also name the
    folder of another process, such as one that started gunicorn as a daemon. Without a folder, each worker
    has its own metrics.
    """
    named = Path(os.environ.get(METRICS_FOLDER, "")).name
    if named.startswith(f"{METRICS_PREFIX}-{os.getpid()}-"):
        return
    try:
        os.environ[METRICS_FOLDER] = str(make_folder(METRICS_PREFIX))
    except OSError as error:
        os.environ.pop(METRICS_FOLDER, None)
        logger.warning("the workers share no metrics", extra={"error": str(error)})


def hold_folder(server: Arbiter) -> None:
    """Hold the folder in the master before a worker is started. Make it again if it has vanished.

    A worker makes a vanished folder again, too. But when it ends, no process may hold the folder until the
    next worker has started, and another server could remove it with all counts. The lock is kept on the
    server object, because a reload makes new hooks.
    """
    if not (named := os.environ.get(METRICS_FOLDER)):
        return
    folder: OwnedFolder = vars(server).setdefault("metrics_folder", OwnedFolder(Path(named)))
    if not folder.is_held():
        with suppress(OSError):  # without it, each worker has its own metrics
            folder.hold()
