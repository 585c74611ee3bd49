"""What `flask doctor` asks other machines, and the running server. Nothing takes longer than its limits."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ridges_proxy.auth.run_tokens import LEEWAY_SECONDS
from ridges_proxy.cli.comparison import Verdict, compare
from ridges_proxy.cli.findings import Finding, failed, ok, warning
from ridges_proxy.errors import UpstreamError
from ridges_proxy.upstream import fetch_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ridges_proxy.billing.prices import Price
    from ridges_proxy.config import Settings

WAIT_SECONDS = 10.0
"""For a name to be found, and for each step of an answer."""

SLOW_NAME_SECONDS = 0.5
"""Every new connection looks its name up again."""

MAX_ANSWER_BYTES = 1 << 20


def check_names(settings: Settings) -> Iterator[Finding]:
    """Look up the hosts of the upstream."""
    urls = (settings.chutes_base_url, settings.chutes_embedding_url)
    for host in dict.fromkeys(str(urlsplit(url).hostname) for url in urls):
        seconds = _seconds_to_find(host)
        if seconds is None:
            yield failed(
                "DNS", f"{host} is not found", "check the name in the settings, and the machine's resolver"
            )
        elif seconds > SLOW_NAME_SECONDS:
            yield warning(
                "DNS", f"{host} took {seconds:.1f} s to find", "use a resolver that caches, on this machine"
            )
        else:
            yield ok("DNS", f"{host} is found in {seconds * 1000:.0f} ms")


def _seconds_to_find(host: str) -> float | None:
    """How long a name takes; None if it is not found in time: resolvers may wait for half a minute."""
    found: list[float] = []
    began = time.monotonic()

    def find() -> None:
        try:
            socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
        except OSError:
            return
        found.append(time.monotonic() - began)

    thread = threading.Thread(target=find, daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    return found[0] if found else None


def check_clock(settings: Settings) -> Iterator[Finding]:
    """Compare the clock with the upstream's: run tokens name moments."""
    try:
        theirs = _date_of(settings.chutes_base_url)
    except (OSError, HTTPException, ValueError) as error:
        yield warning("clock", f"not compared: {error}", "run again when the upstream answers")
        return
    skew_seconds = time.time() - theirs
    words = f"{abs(skew_seconds):.0f} s {'ahead of' if skew_seconds > 0 else 'behind'} the upstream's"
    if abs(skew_seconds) > LEEWAY_SECONDS:
        yield failed("clock", words, "let it be set by NTP (timedatectl set-ntp true)")
    else:
        yield ok("clock", words)


def _date_of(url: str) -> float:
    """The moment that a server's answer says it is, in seconds since 1970."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(str(parts.hostname), parts.port, timeout=WAIT_SECONDS)) as connection:
        connection.request("GET", f"{parts.path}/models", headers={"User-Agent": "ridges-proxy"})
        date = connection.getresponse().headers.get("Date")
    if date is None:
        raise ValueError("its answer has no Date")
    return parsedate_to_datetime(date).timestamp()


def check_upstream(settings: Settings) -> Iterator[Finding]:
    """Ask what the upstream's models cost, which needs no key, and compare; connect for embeddings."""
    try:
        catalogue = fetch_catalogue(settings.chutes_base_url, settings.connect_timeout_seconds)
    except UpstreamError as error:
        yield failed(
            "upstream", f"{settings.chutes_base_url}: {error}", "check CHUTES_BASE_URL, and the way there"
        )
    else:
        yield ok(
            "upstream", f"{settings.chutes_base_url} lists {len(catalogue)} models; the key was not tried"
        )
        for compared in compare(settings.model_prices, catalogue):
            yield _price(compared.model, compared.price, compared.verdict, compared.slip)
    url = urlsplit(settings.chutes_embedding_url)
    try:
        socket.create_connection((str(url.hostname), url.port or 443), timeout=WAIT_SECONDS).close()
    except OSError as error:
        yield failed("embedding", f"{url.netloc} cannot be reached: {error}", "check CHUTES_EMBEDDING_URL")
    else:
        yield ok("embedding", f"{url.netloc} takes connections")


def _price(model: str, price: Price, verdict: Verdict, slip: str | None) -> Finding:
    words = f"{price.upstream_model or model}: {slip or verdict}"
    if verdict is Verdict.SAME:
        return ok("prices", words)
    if verdict is Verdict.LOWER:
        return failed("prices", words, "raise it in MODEL_PRICES: runs cost more than is booked")
    return warning("prices", words, "flask prices check shows both")


def check_server(settings: Settings) -> Iterator[Finding]:
    """Ask the running server whether it is ready, and whether it knows the keys that are set here."""
    try:
        status, ready = _ask(settings.proxy_url, "/ready")
    except (OSError, HTTPException) as error:
        yield failed(
            "server", f"{settings.proxy_url} does not answer: {error}", "start it, or mend PROXY_URL"
        )
        return
    if status == HTTPStatus.OK and ready.get("status") == "ready":
        yield ok("server", f"{settings.proxy_url} is ready")
    elif ready.get("status") == "not_ready":
        wrong = ", ".join(name for name in ("ledger", "sweeper") if not _is_well(ready.get(name)))
        yield failed(
            "server", f"{settings.proxy_url} is not ready: {wrong or 'it is stopping'}", "its log says why"
        )
    else:
        yield failed(
            "server", f"{settings.proxy_url} answered {status}, not as this proxy does", "mend PROXY_URL"
        )
        return
    keys = [("PROXY_API_KEY", settings.proxy_api_key, "/v1/models")]
    if settings.admin_api_key:
        keys.append(("ADMIN_API_KEY", settings.admin_api_key, "/admin/runs?limit=1"))
    for name, key, path in keys:
        yield _key(settings.proxy_url, name, key, path)


def _key(url: str, name: str, key: str, path: str) -> Finding:
    try:
        status, _ = _ask(url, path, key)
    except (OSError, HTTPException) as error:
        return failed("keys", f"{name}: no answer: {error}", "its log says why")
    if status == HTTPStatus.OK:
        return ok("keys", f"{name} is the running server's")
    return warning(
        "keys", f"{name} here is answered with {status}", "the server runs with other settings: reload it"
    )


def _is_well(part: object) -> bool:
    return isinstance(part, dict) and bool(part.get("answers", part.get("running")))


def _ask(url: str, path: str, key: str = "") -> tuple[int, dict[str, object]]:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with closing(kind(str(parts.hostname), parts.port, timeout=WAIT_SECONDS)) as connection:
        connection.request("GET", parts.path + path, headers=headers)
        answer = connection.getresponse()
        try:
            document = json.loads(answer.read(MAX_ANSWER_BYTES))
        except ValueError:
            document = None
        return answer.status, document if isinstance(document, dict) else {}
