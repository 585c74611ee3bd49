"""The proxy's gunicorn settings without its hooks, which need the service."""

import runpy
from pathlib import Path
from types import FunctionType, MethodType

_settings = runpy.run_path(str(Path(__file__).resolve().parent.parent / "gunicorn.conf.py"))
globals().update(
    {
        name: value
        for name, value in _settings.items()
        if name[0] != "_" and not isinstance(value, FunctionType | MethodType)
    }
)
