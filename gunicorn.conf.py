"""Gunicorn's configuration file in a checkout. `gunicorn wsgi:app` loads it from the current folder."""

# Patch before any other import: a module imported earlier may keep unpatched sockets (gunicorn#2796).
from gevent import monkey

monkey.patch_all()

from ridges_proxy.server import gunicorn_settings  # noqa: E402 - after the patch

globals().update(gunicorn_settings())
