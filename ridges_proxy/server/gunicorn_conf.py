"""Gunicorn's configuration file in the installed package; `ridges-proxy serve` names it to gunicorn."""

# Patch before any other import: a module imported earlier may keep unpatched sockets (gunicorn#2796).
from gevent import monkey

monkey.patch_all()

from ridges_proxy.server import gunicorn_settings  # noqa: E402 - after the patch

globals().update(gunicorn_settings())
