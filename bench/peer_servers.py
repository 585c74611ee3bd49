"""Install other gateways into bench/.peers, and start them."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.processes import ROOT, free_port, process, require_program, wait_for_port
from bench.servers import Server, proxy_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = ROOT / "bench" / ".peers"
PYTHON = FOLDER / "venv" / "bin" / "python"
LITELLM = "litellm[proxy]==1.108.7"
GUIDE = ("fastapi==0.165.0", "uvicorn==0.54.0", "httpx==0.28.1")
PORTKEY = "@portkey-ai/gateway@1.15.2"
LITELLM_MASTER_KEY = "sk-bench-0123456789abcdef0123456789"
START_SECONDS = 120.0
"""LiteLLM needs some 25 s until it listens."""

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


def install() -> None:
    """Install the gateways of PyPI and npm, unless they are there already."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER / "venv")], check=True)
        subprocess.run([str(PYTHON), "-m", "pip", "install", "--quiet", LITELLM, *GUIDE], check=True)
    if not (FOLDER / "node_modules").exists():
        npm = require_program("npm", "npm")
        (FOLDER / "package.json").write_text('{"private": true}')
        subprocess.run([npm, "install", "--silent", PORTKEY], cwd=FOLDER, check=True)


def versions() -> str:
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{LITELLM}, {GUIDE[0]}, {PORTKEY} on Node {node}, {platform.python_implementation()}"


@contextlib.contextmanager
def peer_server(command: list[str], cores: set[int], **environ: str) -> Iterator[Server]:
    """A gateway, once it listens. `{port}` in the command stands for its port."""
    port = free_port()
    arguments = [argument.replace("{port}", str(port)) for argument in command]
    with process(arguments, {**os.environ, **environ}, cores) as started:
        wait_for_port(port, START_SECONDS)
        yield Server(port, started.pid)


def guide_service(
    upstream_url: str, cores: set[int], **settings: str
) -> contextlib.AbstractContextManager[Server]:
    command = [str(PYTHON), "-m", "uvicorn", "bench.guide_service:app", "--port", "{port}"]
    return peer_server(command, cores, **{**proxy_settings(upstream_url), **settings})


def litellm_proxy(config: dict[str, object], cores: set[int]) -> contextlib.AbstractContextManager[Server]:
    """LiteLLM's proxy with this configuration."""
    file = FOLDER / "litellm.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML, too
    command = [str(PYTHON.with_name("litellm")), "--config", str(file)]
    return peer_server(
        [*command, "--host", "127.0.0.1", "--port", "{port}"],
        cores,
        LITELLM_MASTER_KEY=LITELLM_MASTER_KEY,
        LITELLM_LOG="ERROR",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )


def portkey_gateway(cores: set[int]) -> contextlib.AbstractContextManager[Server]:
    program = FOLDER / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return peer_server(["node", str(program), "--port={port}", "--headless"], cores, NODE_ENV="production")


@contextlib.contextmanager
def nginx(upstream_url: str, cores: set[int]) -> Iterator[Server]:
    """Nginx as a gateway that only forwards, with connections kept open on both sides."""
    program = require_program("nginx", "nginx-light", "/usr/sbin")
    folder = FOLDER / "nginx"
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        NGINX_CONFIG.format(folder=folder, upstream=upstream_url.removeprefix("http://"), port=port)
    )
    command = [program, "-p", str(folder), "-c", str(config), "-e", "/dev/null", "-g", "daemon off;"]
    with process(command, dict(os.environ), cores) as started:
        wait_for_port(port)
        yield Server(port, started.pid)
