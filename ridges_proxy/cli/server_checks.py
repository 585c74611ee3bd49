"""Checks of `ridges-proxy doctor` over the network: DNS, clock, upstream, running server.

Each step has a time limit.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from ridges_proxy.auth.token_claims import LEEWAY_SECONDS
from ridges_proxy.cli.client import visible
from ridges_proxy.cli.comparison import Verdict, compare
from ridges_proxy.cli.errors import SpendError
from ridges_proxy.cli.findings import Finding, failed, ok, warning
from ridges_proxy.cli.running_settings import differences, running_settings
from ridges_proxy.errors import UpstreamError
from ridges_proxy.upstream import fetch_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.cli.comparison import Comparison
    from ridges_proxy.config import Settings

TIMEOUT_SECONDS = 10.0
"""Time limit for a DNS lookup, and for each step of an answer."""

SLOW_LOOKUP_SECONDS = 0.5
"""A slower lookup is a warning: every new connection makes one."""

MAX_ANSWER_BYTES = 1 << 20


class _Failure(NamedTuple):
    """Why a server is not ready, and what to do."""

    reason: str
    advice: str


NOT_WORKING = {
    "ledger": _Failure(
        "its ledger does not answer, or refuses writes",
        "`ridges-proxy ledger check` says why: make room on the disk of the file, or let Redis accept writes;"
        " the server recovers by itself",
    ),
    "sweeper": _Failure(
        "it does not sweep the ledger", "see the server's log for `sweep failed`, and reload it"
    ),
}
"""Parts of a server without which it is not ready."""


def check_dns(settings: Settings) -> Iterator[Finding]:
    """Look up the host names of the upstream."""
    urls = (settings.chutes_base_url, settings.chutes_embedding_url)
    for host in dict.fromkeys(str(urlsplit(url).hostname) for url in urls):
        seconds = _lookup_seconds(host)
        if seconds is None:
            yield failed(
                "DNS",
                f"{host} is not found",
                "check the name in the settings and the resolver of this machine",
            )
        elif seconds > SLOW_LOOKUP_SECONDS:
            yield warning(
                "DNS", f"the lookup of {host} took {seconds:.1f} s", "run a caching resolver on this machine"
            )
        else:
            yield ok("DNS", f"{host} was found in {seconds * 1000:.0f} ms")


def _lookup_seconds(host: str) -> float | None:
    """Return the time of a lookup, None if it fails or times out. A resolver may wait for half a minute."""
    durations: list[float] = []
    began = time.monotonic()

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
        except OSError:
            return
        durations.append(time.monotonic() - began)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    return durations[0] if durations else None


def check_clock(settings: Settings) -> Iterator[Finding]:
    """Compare the clock with the upstream's: run tokens expire by the clock."""
    try:
        upstream_time = _date_of(settings.chutes_base_url)
    except (OSError, HTTPException, ValueError) as error:
        yield warning("clock", f"not compared: {error}", "run the doctor again when the upstream answers")
        return
    skew_seconds = time.time() - upstream_time
    message = f"{abs(skew_seconds):.0f} s {'ahead of' if skew_seconds > 0 else 'behind'} the upstream's clock"
    if abs(skew_seconds) > LEEWAY_SECONDS:
        yield failed("clock", message, "synchronize it by NTP (timedatectl set-ntp true)")
    else:
        yield ok("clock", message)


def _date_of(url: str) -> float:
    """Return the time in the Date header of a server's answer, in seconds since 1970."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(str(parts.hostname), parts.port, timeout=TIMEOUT_SECONDS)) as connection:
        connection.request("GET", f"{parts.path}/models", headers={"User-Agent": "ridges-proxy"})
        date = connection.getresponse().headers.get("Date")
    if date is None:
        raise ValueError("the answer has no Date header")
    return parsedate_to_datetime(date).timestamp()


def check_upstream(settings: Settings) -> Iterator[Finding]:
    """Compare prices with the upstream's list of models, which needs no key. Connect to the embedding URL."""
    try:
        catalog = fetch_catalog(settings.chutes_base_url, settings.connect_timeout_seconds)
    except UpstreamError as error:
        yield failed(
            "upstream", f"{settings.chutes_base_url}: {error}", "check CHUTES_BASE_URL and the network"
        )
    else:
        yield ok(
            "upstream",
            f"{settings.chutes_base_url} lists {len(catalog)} models; CHUTES_API_KEY was not used",
        )
        for comparison in compare(settings.model_prices, catalog):
            yield _price_finding(comparison)
    url = urlsplit(settings.chutes_embedding_url)
    try:
        socket.create_connection((str(url.hostname), url.port or 443), timeout=TIMEOUT_SECONDS).close()
    except OSError as error:
        yield failed("embedding", f"{url.netloc} cannot be reached: {error}", "check CHUTES_EMBEDDING_URL")
    else:
        yield ok("embedding", f"{url.netloc} accepts connections")


def _price_finding(comparison: Comparison) -> Finding:
    model, verdict = comparison.price.upstream_model or comparison.model, comparison.verdict
    message = f"{model}: {comparison.unit_warning or verdict}"
    if verdict is Verdict.SAME:
        return ok("prices", message)
    if verdict is Verdict.LOWER:
        return failed("prices", message, "raise it in MODEL_PRICES: runs cost more than the ledger records")
    return warning("prices", message, "`ridges-proxy prices check` prints both prices")


def check_server(settings: Settings) -> Iterator[Finding]:
    """Check that the running server is ready, and that it accepts the configured keys."""
    try:
        status, ready = _get(settings.proxy_url, "/ready")
    except (OSError, HTTPException) as error:
        yield failed(
            "server", f"{settings.proxy_url} does not answer: {error}", "start it, or correct PROXY_URL"
        )
        return
    if status == HTTPStatus.OK and ready.get("status") == "ready":
        yield ok("server", f"{settings.proxy_url} is ready")
        yield from _degraded_findings(ready.get("degraded"))
    elif ready.get("status") == "not_ready":
        parts = [name for name in NOT_WORKING if not _is_working(ready.get(name))]
        reasons = ", ".join(NOT_WORKING[part].reason for part in parts) or "it is stopping"
        yield failed(
            "server",
            f"{settings.proxy_url} is not ready: {reasons}",
            "; ".join(NOT_WORKING[part].advice for part in parts) or "wait until it has started again",
        )
    else:
        yield failed(
            "server",
            f"{settings.proxy_url} answered {status}, but the answer is not from this proxy",
            "correct PROXY_URL",
        )
        return
    keys = [("PROXY_API_KEY", settings.proxy_api_key, "/v1/models")]
    if settings.admin_api_key:
        keys.append(("ADMIN_API_KEY", settings.admin_api_key, "/admin/runs?limit=1"))
    for name, key, path in keys:
        yield _key_finding(settings.proxy_url, name, key, path)


def check_settings_in_force(settings: Settings) -> Iterator[Finding]:
    """Compare the settings that are read here with those of the running server."""
    try:
        running = running_settings(settings)
    except SpendError as error:
        advice = "set ADMIN_API_KEY" if settings.admin_api_key is None else "see the lines above"
        yield warning("settings", f"not compared with those of the running server: {error.message}", advice)
        return
    installed = version("ridges-proxy")
    if running["version"] != installed:
        yield warning(
            "server", f"it runs version {running['version']}, and {installed} is installed", "restart it"
        )
    names = differences(settings, running)
    if names:
        message = f"the running server has other values: {', '.join(names)}"
        yield warning("settings", message, "`systemctl reload ridges-proxy`, or `ridges-proxy reload PID`")
    elif running["problems"]:
        message = f"the last reload was refused: {'; '.join(running['problems'])}"
        yield warning("settings", message, "reload again: the settings that are read here have no problem")
    else:
        yield ok("settings", "the running server has the settings that are read here")


def _degraded_findings(degraded: object) -> Iterator[Finding]:
    for part, reason in degraded.items() if isinstance(degraded, dict) else ():
        yield warning(
            "server",
            f"the workers do not share {part.replace('_', ' ')}: {visible(str(reason))}",
            "make room in /dev/shm, and restart the server",
        )


def _key_finding(url: str, name: str, key: str, path: str) -> Finding:
    try:
        status, _ = _get(url, path, key)
    except (OSError, HTTPException) as error:
        return failed("keys", f"{name}: no answer: {error}", "see the server's log")
    if status == HTTPStatus.OK:
        return ok("keys", f"the running server accepts {name}")
    return warning(
        "keys", f"the running server answers {status} to {name}", "it runs with other settings: reload it"
    )


def _is_working(part: object) -> bool:
    return isinstance(part, dict) and bool(part.get("answers", part.get("running")))


def _get(url: str, path: str, key: str = "") -> tuple[int, dict[str, object]]:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with closing(kind(str(parts.hostname), parts.port, timeout=TIMEOUT_SECONDS)) as connection:
        connection.request("GET", parts.path + path, headers=headers)
        answer = connection.getresponse()
        try:
            document = json.loads(answer.read(MAX_ANSWER_BYTES))
        except ValueError:
            document = None
        return answer.status, document if isinstance(document, dict) else {}
