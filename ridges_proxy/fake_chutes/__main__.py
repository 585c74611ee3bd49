"""Start the fake Chutes. It uses gevent's own sockets, so nothing is monkey-patched."""

from __future__ import annotations

import argparse
import resource
import signal
import sys

import gevent
from gevent.event import Event
from gevent.server import StreamServer

from .prices import Prices, Rates, nanousd
from .server import Server

BACKLOG = 4096


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ridges_proxy.fake_chutes", description="Imitates Chutes."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--price-usd-per-mtok", default="0.27")
    parser.add_argument("--embedding-usd-per-second", default="0.0001")
    parser.add_argument(
        "--model-price",
        action="append",
        default=[],
        type=_model_price,
        metavar="NAME=INPUT,OUTPUT",
        help="a model's own rates, in USD per million tokens; more than once for more models",
    )
    return parser.parse_args()


def _model_price(text: str) -> tuple[str, Rates]:
    name, _, usd = text.rpartition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"no name in {text!r}")
    return name, Rates.read(usd)


def _prices(arguments: argparse.Namespace) -> Prices:
    per_mtok = nanousd(arguments.price_usd_per_mtok)
    per_second = nanousd(arguments.embedding_usd_per_second)
    return Prices(Rates(per_mtok, per_mtok), per_second, dict(arguments.model_price))


def _allow_many_files() -> None:
    """Raise the limit of open files to the hard limit: each connection needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    arguments = _arguments()
    _allow_many_files()
    listener = StreamServer(
        (arguments.host, arguments.port), Server(_prices(arguments)).serve, backlog=BACKLOG
    )
    stopped = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stopped.set)
    listener.start()
    sys.stdout.write(f"fake Chutes on http://{arguments.host}:{listener.server_port}\n")
    sys.stdout.flush()
    stopped.wait()
    listener.stop(timeout=0)


if __name__ == "__main__":
    main()
