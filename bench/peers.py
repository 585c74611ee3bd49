"""The same load on other gateways, beside the two floors: an empty Flask view, and nginx passing through.

    python -m bench.peers [--rounds 5] [--seconds 4]

Installs LiteLLM's proxy (PyPI) and Portkey's gateway (npm) into bench/.peers, once. Each server is on core
0, wrk (32 connections) and the stub upstream on core 1. Rounds go in turn over all of them; the figures are
medians, and the ratios are of rates in this one run. Ours has budgets, metrics, rate limits and log lines
on; of the others none keeps a budget here (LiteLLM would need a database for it), which is to their
advantage.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.calls import COLUMNS, EMPTY, row
from bench.http_load import MODEL, OURS, Ask, Round, chat, measure
from bench.processes import ROOT, Server, await_port, cores, free_port, process, server, stub
from bench.tables import heading, show, where_and_when

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = ROOT / "bench" / ".peers"
PYTHON = HOME / "venv" / "bin" / "python"
LITELLM = "litellm[proxy]==1.108.7"
GUIDE = ("fastapi==0.165.0", "uvicorn==0.54.0", "httpx==0.28.1")
PORTKEY = "@portkey-ai/gateway@1.15.2"
MASTER_KEY = "sk-bench-0123456789abcdef0123456789"
START_SECONDS = 120.0
"""LiteLLM needs some 25 to listen."""

WARM_SECONDS = 8.0
"""Not counted. Node compiles what is hot: in its first seconds Portkey's is half as fast."""

RATIOS = (
    ("/agents/inference", "guide's service", 30.0),
    ("/agents/inference", "empty Flask view", 0.45),
    ("/v1 whole", "LiteLLM whole", 15.0),
    ("/v1 whole", "Portkey whole", 2.5),
    ("/v1 streamed", "LiteLLM streamed", 30.0),
)
"""What is compared with what, and the ratio that is aimed at."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    install()
    server_cores, load_cores = cores()
    with contextlib.ExitStack() as stack:
        upstream = f"http://127.0.0.1:{stack.enter_context(stub(load_cores)).port}"
        plan = dict(targets(stack, upstream, server_cores))
        for each, ask in plan.values():
            measure(each, ask, WARM_SECONDS, load_cores)
        rounds: dict[str, list[Round]] = {name: [] for name in plan}
        for _ in range(options.rounds):
            for name, (each, ask) in plan.items():
                rounds[name].append(measure(each, ask, options.seconds, load_cores))
    heading(f"Gateways, answers of 20 events ({where_and_when()}; {versions()})")
    show(COLUMNS, [row(name, found) for name, found in rounds.items()])
    rates = {name: statistics.median(each.rate for each in found) for name, found in rounds.items()}
    heading("Ratios of requests a second")
    show(
        ("", "ratio", "aimed at"),
        [
            (f"{ours} / {theirs}", f"{rates[ours] / (rates[theirs] or math.nan):.2f}", f"{least:g}")
            for ours, theirs, least in RATIOS  # of a peer that answers nothing in so short a round: nan
        ],
    )


def install() -> None:
    """Put the peers into a folder of their own, if they are not there."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME / "venv")], check=True)
        subprocess.run([str(PYTHON), "-m", "pip", "install", "--quiet", LITELLM, *GUIDE], check=True)
    if not (HOME / "node_modules").exists():
        npm = shutil.which("npm") or sys.exit("npm is needed for Portkey's gateway: apt install npm")
        (HOME / "package.json").write_text('{"private": true}')
        subprocess.run([npm, "install", "--silent", PORTKEY], cwd=HOME, check=True)


def versions() -> str:
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{LITELLM}, {GUIDE[0]}, {PORTKEY} on Node {node}, {platform.python_implementation()}"


def targets(
    stack: contextlib.ExitStack, upstream: str, on: set[int]
) -> Iterator[tuple[str, tuple[Server, Ask]]]:
    """Everything that is compared, and what it is asked."""
    ours = stack.enter_context(server("wsgi:app", "gunicorn.conf.py", upstream, on))
    yield "/agents/inference", (ours, chat("/agents/inference"))
    yield "/v1 whole", (ours, v1(stream=False))
    yield "/v1 streamed", (ours, v1(stream=True))
    guide = stack.enter_context(guide_service(upstream, on))
    named = json.dumps({**json.loads(chat("/agents/inference").body), "run_id": "bench"}).encode()
    yield "guide's service", (guide, Ask("/agents/inference", named, OURS))
    key = {"Authorization": f"Bearer {MASTER_KEY}"}
    litellm = stack.enter_context(litellm_proxy(upstream, on))
    yield "LiteLLM whole", (litellm, v1(key, stream=False))
    yield "LiteLLM streamed", (litellm, v1(key, stream=True))
    there = {**key, "x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream}/v1"}
    portkey = stack.enter_context(portkey_gateway(on))
    yield "Portkey whole", (portkey, v1(there, stream=False))  # streamed, it answers 500 on Node 20
    empty = stack.enter_context(server("bench.empty_view:app", "bench/empty_view.conf.py", upstream, on))
    yield "empty Flask view", (empty, EMPTY)
    passing = stack.enter_context(nginx(upstream, on))
    yield "nginx, streamed", (passing, v1(stream=True))


def v1(headers: dict[str, str] = OURS, *, stream: bool) -> Ask:
    return chat("/v1/chat/completions", stream=stream, headers=headers)


@contextlib.contextmanager
def started(command: list[str], on: set[int], **settings: str) -> Iterator[Server]:
    """A peer, once it listens."""
    port = free_port()
    words = [word.replace("{port}", str(port)) for word in command]
    with process(words, {**os.environ, **settings}, on) as running:
        await_port(port, START_SECONDS)
        yield Server(port, running.pid)


def guide_service(upstream: str, on: set[int]) -> contextlib.AbstractContextManager[Server]:
    command = [str(PYTHON), "-m", "uvicorn", "bench.guide_service:app", "--port", "{port}"]
    keys = {"CHUTES_API_KEY": "bench-chutes-key", "PROXY_API_KEY": "bench-proxy-key"}
    return started(command, on, CHUTES_BASE_URL=f"{upstream}/v1", MAX_COST_PER_RUN="100000", **keys)


def litellm_proxy(upstream: str, on: set[int]) -> contextlib.AbstractContextManager[Server]:
    config = HOME / "litellm.yaml"
    config.write_text(
        f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: openai/{MODEL}\n"
        f"      api_base: {upstream}/v1\n      api_key: bench\nlitellm_settings:\n  telemetry: false\n"
    )
    command = [
        str(PYTHON.with_name("litellm")),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
    ]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return started(command, on, LITELLM_MASTER_KEY=MASTER_KEY, **quiet)


def portkey_gateway(on: set[int]) -> contextlib.AbstractContextManager[Server]:
    program = HOME / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return started(["node", str(program), "--port={port}", "--headless"], on, NODE_ENV="production")


@contextlib.contextmanager
def nginx(upstream: str, on: set[int]) -> Iterator[Server]:
    """As a gateway that does nothing but pass through, with connections kept on both sides."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        sys.exit("nginx is needed: apt install nginx-light")
    folder = HOME / "nginx"
    folder.mkdir(exist_ok=True)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, there=upstream.removeprefix("http://"), port=port))
    command = [program, "-p", str(folder), "-c", str(config), "-e", "/dev/null", "-g", "daemon off;"]
    with process(command, dict(os.environ), on) as running:
        await_port(port)
        yield Server(port, running.pid)


NGINX = """
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
  upstream there {{ server {there}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    location / {{
      proxy_pass http://there;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


if __name__ == "__main__":
    main()
