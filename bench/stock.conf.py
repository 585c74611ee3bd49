"""Gunicorn as anyone would start it, for the applications that the proxy is compared with.

Its own gevent worker, without hooks. Connections are kept open for as long as the proxy keeps them.
"""

from os import environ

from ridges_proxy.server.gunicorn_settings import KEEPALIVE_SECONDS

bind = f"{environ['HOST']}:{environ['PORT']}"
worker_class = "gevent"
worker_connections = 5_000
keepalive = KEEPALIVE_SECONDS
