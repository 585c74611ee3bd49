"""The server: gunicorn with this package's settings, hooks and worker class."""

from ridges_proxy.server.gunicorn_settings import gunicorn_settings

__all__ = ["gunicorn_settings"]
