"""The operators' routes of a running server, as the command line asks for them."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPErrorProcessor, ProxyHandler, Request, build_opener

from ridges_proxy.cli.answer_types import is_books, is_issued, is_page, is_receipts, is_swept
from ridges_proxy.cli.errors import (
    KeyRefusedError,
    RunUnknownError,
    ServerRefusedError,
    ServerUnreachableError,
    SpendError,
    UnusableSettingsError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.cli.answer_types import Books, Issued, Page, Receipts, Swept

TIMEOUT_SECONDS = 10.0
"""For each step of an answer: to connect, and for every piece to arrive."""

MAX_ANSWER_BYTES = 16 << 20
"""The longest list of runs is under 4 MiB."""

ESCAPES = "surrogateescape"
"""A run id from the command line that is no UTF-8 is sent as the bytes it came in."""


def visible(text: str) -> str:
    r"""The text with everything that a terminal would act on instead of showing as an escape: `\x1b`."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


class AdminClient:
    """Asks one server. Every method raises the SpendError that fits."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        # No proxy of the environment's: the operators' key goes to PROXY_URL and nowhere else.
        self._opener = build_opener(ProxyHandler({}), _EveryAnswer())

    def runs(self, query: Mapping[str, object]) -> Page:
        """One page of the runs that match."""
        page = self._ask("GET", f"/admin/runs?{urlencode(query, errors=ESCAPES)}")
        if not is_page(page):
            raise self._stranger()
        return page

    def run(self, run_id: str) -> Books:
        """One run's books."""
        return self._books("GET", _path(run_id), run_id)

    def reset(self, run_id: str) -> Books:
        """Set a run's spend to zero; its books before that."""
        return self._books("POST", f"{_path(run_id)}/reset", run_id)

    def close(self, run_id: str) -> Books:
        """Close a run; its final receipt."""
        return self._books("POST", f"{_path(run_id)}/close", run_id)

    def issue(self, asked: Mapping[str, object]) -> Issued:
        """Mint a run token."""
        issued = self._ask("POST", "/admin/runs", str(asked["run_id"]), asked)
        if not is_issued(issued):
            raise self._stranger()
        return issued

    def receipts(self, query: Mapping[str, object]) -> Receipts:
        """One page of the receipts that match."""
        page = self._ask("GET", f"/admin/receipts?{urlencode(query)}")
        if not is_receipts(page):
            raise self._stranger()
        return page

    def sweep(self) -> Swept:
        """Sweep the ledger now."""
        swept = self._ask("POST", "/admin/sweep")
        if not is_swept(swept):
            raise self._stranger()
        return swept

    def _books(self, method: str, path: str, run_id: str) -> Books:
        books = self._ask(method, path, run_id)
        if not is_books(books):
            raise self._stranger()
        return books

    def _ask(
        self, method: str, path: str, run_id: str = "", asked: Mapping[str, object] | None = None
    ) -> object:
        status, body = self._send(method, path, b"" if asked is None else json.dumps(asked).encode())
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if status != HTTPStatus.OK:
            raise self._refusal(status, document if isinstance(document, dict) else {}, run_id)
        return document

    def _send(self, method: str, path: str, data: bytes) -> tuple[int, bytes]:
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        try:
            body = data if method == "POST" else None
            request = Request(self._url + path, body, headers, method=method)  # noqa: S310 - settings allow http(s) only
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                return response.status, response.read(MAX_ANSWER_BYTES)
        except OSError as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise ServerUnreachableError(
                f"No answer from PROXY_URL, {self._url}: {reason}. Does the server run there?"
            ) from None
        except (InvalidURL, ValueError, OverflowError) as error:
            raise UnusableSettingsError(f"PROXY_URL, {self._url}, cannot be asked: {error}") from None
        except HTTPException:
            raise self._stranger() from None

    def _refusal(self, status: int, answer: dict[str, Any], run_id: str) -> SpendError:
        code = answer.get("code")
        if status == HTTPStatus.UNAUTHORIZED:
            return KeyRefusedError(f"{self._url} refuses the key: ADMIN_API_KEY here is not the server's.")
        if code == "run_not_found":
            return RunUnknownError(
                f"The server has no books of the run {run_id!r}: it has booked nothing, or was forgotten."
            )
        if code == "not_found":
            return ServerRefusedError(
                f"{self._url} has no /admin routes: ADMIN_API_KEY is not set at the server."
                " Set it there and restart the server."
            )
        if not isinstance(code, str):
            return self._stranger(f" {status}")
        words = visible(f"{status} {code}: {_words(answer.get('detail'))}")
        return ServerRefusedError(f"{self._url} answered {words}")

    def _stranger(self, status: str = "") -> ServerRefusedError:
        return ServerRefusedError(
            f"{self._url} answered{status}, but not as Ridges AI Proxy does."
            " Is PROXY_URL right, and does the proxy run behind it?"
        )


class _EveryAnswer(HTTPErrorProcessor):
    """Every status is an answer: none is raised, and no redirect is followed with the key in hand."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:  # noqa: ARG002 - urllib's signature
        return response

    https_response = http_response


def _path(run_id: str) -> str:
    return f"/admin/runs/{quote(run_id, safe='', errors=ESCAPES)}"


def _words(detail: object) -> str:
    """An error's detail: a text, or a list of fields with what is wrong with each."""
    if isinstance(detail, list):
        return "; ".join(_problem(problem) for problem in detail if isinstance(problem, dict))
    return str(detail)


def _problem(problem: dict[str, Any]) -> str:
    loc = problem.get("loc")
    return f"{loc[-1] if isinstance(loc, list) and loc else '?'}: {problem.get('msg')}"
