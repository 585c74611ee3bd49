"""The folder where the workers of one server share their metrics."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ridges_proxy.runtime.shared_memory import make_folder

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
METRICS_PREFIX = "ridges-metrics"

logger = logging.getLogger(__name__)


def share_metrics() -> None:
    """Give the workers one folder for their metrics.

    Each master makes one. A reload runs this again in the same master, and an upgraded server inherits the
    environment of the master that started it. Without a folder, each worker has its own metrics.
    """
    named = Path(os.environ.get(METRICS_FOLDER, "")).name
    if named.startswith(f"{METRICS_PREFIX}-{os.getpid()}-"):
        return
    try:
        os.environ[METRICS_FOLDER] = str(make_folder(METRICS_PREFIX))
    except OSError as error:
        os.environ.pop(METRICS_FOLDER, None)
        logger.warning("the workers share no metrics", extra={"error": str(error)})
