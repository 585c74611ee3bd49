"""The proxy's gunicorn settings, without the hooks that need the service."""

import runpy
from pathlib import Path

_settings = runpy.run_path(str(Path(__file__).resolve().parent.parent / "gunicorn.conf.py"))
_service_hooks = {"on_starting", "when_ready", "nworkers_changed", "post_worker_init"}
globals().update(
    {name: value for name, value in _settings.items() if name not in _service_hooks and name[0] != "_"}
)
