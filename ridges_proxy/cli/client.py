"""Client of a running server's /admin routes."""

from __future__ import annotations

import json
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPErrorProcessor, ProxyHandler, Request, build_opener

from ridges_proxy.cli.answer_types import (
    is_audit_page,
    is_budget,
    is_budget_page,
    is_budget_reset,
    is_budget_with_levels,
    is_issued_token,
    is_open_calls,
    is_page,
    is_receipts,
    is_run_usage,
    is_running_settings,
    is_session_list,
    is_sessions_ended,
    is_sweep_result,
)
from ridges_proxy.cli.errors import (
    BudgetUnknownError,
    KeyRefusedError,
    RunUnknownError,
    ServerRefusedError,
    ServerUnreachableError,
    SpendError,
    UnusableSettingsError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.cli.answer_types import (
        AuditPage,
        Budget,
        BudgetPage,
        BudgetReset,
        BudgetWithLevels,
        IssuedToken,
        OpenCalls,
        Page,
        Receipts,
        RunningSettings,
        RunUsage,
        SessionList,
        SessionsEnded,
        SweepResult,
    )

TIMEOUT_SECONDS = 10.0
"""Time limit for connecting, and for each read of the answer."""

MAX_ANSWER_BYTES = 16 << 20
"""Above the longest list of runs, which is under 4 MiB."""

ESCAPES = "surrogateescape"
"""Send a run id that is not UTF-8 as the bytes that the command line has."""


def visible(text: str) -> str:
    r"""Escape the characters that a terminal would interpret, such as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


class AdminClient:
    """Client of one server. Each method raises a SpendError if the request fails."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        # Ignore http_proxy and the like: ADMIN_API_KEY must be sent to PROXY_URL only.
        self._opener = build_opener(ProxyHandler({}), _NoErrors())

    def runs(self, query: Mapping[str, object]) -> Page:
        """Return one page of the runs that match."""
        page = self._request("GET", f"/admin/runs?{urlencode(query, errors=ESCAPES)}")
        if not is_page(page):
            raise self._unknown_server()
        return page

    def open_calls(self, query: Mapping[str, object]) -> OpenCalls:
        """Return the oldest calls in flight."""
        page = self._request("GET", f"/admin/calls?{urlencode(query, errors=ESCAPES)}")
        if not is_open_calls(page):
            raise self._unknown_server()
        return page

    def run(self, run_id: str) -> RunUsage:
        """Return the usage of a run."""
        return self._usage("GET", _path(run_id), run_id)

    def reset(self, run_id: str) -> RunUsage:
        """Set the spent amount of a run to zero. Returns its usage before the reset."""
        return self._usage("POST", f"{_path(run_id)}/reset", run_id)

    def close(self, run_id: str) -> RunUsage:
        """Close a run. Returns its final usage."""
        return self._usage("POST", f"{_path(run_id)}/close", run_id)

    def issue(self, limits: Mapping[str, object]) -> IssuedToken:
        """Issue a run token."""
        issued = self._request("POST", "/admin/runs", str(limits["run_id"]), limits)
        if not is_issued_token(issued):
            raise self._unknown_server()
        return issued

    def receipts(self, query: Mapping[str, object]) -> Receipts:
        """Return one page of the receipts that match."""
        page = self._request("GET", f"/admin/receipts?{urlencode(query)}")
        if not is_receipts(page):
            raise self._unknown_server()
        return page

    def budgets(self, query: Mapping[str, object]) -> BudgetPage:
        """Return all budgets, and one page of their levels."""
        page = self._request("GET", f"/admin/budgets?{urlencode(query, errors=ESCAPES)}")
        if not is_budget_page(page):
            raise self._unknown_server()
        return page

    def budget(self, name: str, query: Mapping[str, object]) -> BudgetWithLevels:
        """Return a budget, and one page of its levels."""
        path = f"/admin/budgets/{quote(name, safe='')}?{urlencode(query, errors=ESCAPES)}"
        found = self._request("GET", path, name)
        if not is_budget_with_levels(found):
            raise self._unknown_server()
        return found

    def set_amount(self, name: str, change: Mapping[str, object]) -> Budget:
        """Set or remove the amount of a budget. Returns the budget afterwards."""
        after = self._request("POST", f"/admin/budgets/{quote(name, safe='')}/amount", name, change)
        if not is_budget(after):
            raise self._unknown_server()
        return after

    def reset_budget(self, name: str, scope: Mapping[str, object]) -> BudgetReset:
        """Set the spent amounts of a budget to zero. Returns its levels before the reset."""
        before = self._request("POST", f"/admin/budgets/{quote(name, safe='')}/reset", name, scope)
        if not is_budget_reset(before):
            raise self._unknown_server()
        return before

    def sweep(self) -> SweepResult:
        """Sweep the ledger now."""
        swept = self._request("POST", "/admin/sweep")
        if not is_sweep_result(swept):
            raise self._unknown_server()
        return swept

    def settings(self) -> RunningSettings:
        """Return digests of the settings that run, and what became of the last reload."""
        found = self._request("GET", "/admin/settings")
        if not is_running_settings(found):
            raise self._unknown_server()
        return found

    def audit(self, query: Mapping[str, object]) -> AuditPage:
        """Return one page of the audit trail, the newest actions first."""
        page = self._request("GET", f"/admin/audit?{urlencode(query, errors=ESCAPES)}")
        if not is_audit_page(page):
            raise self._unknown_server()
        return page

    def sessions(self) -> SessionList:
        """Return the sessions of the dashboard."""
        found = self._request("GET", "/admin/sessions")
        if not is_session_list(found):
            raise self._unknown_server()
        return found

    def end_session(self, session_id: str) -> SessionsEnded:
        """End a session of the dashboard."""
        return self._ended(f"/admin/sessions/{quote(session_id, safe='', errors=ESCAPES)}/end")

    def end_sessions(self) -> SessionsEnded:
        """End all sessions of the dashboard."""
        return self._ended("/admin/sessions/end")

    def _ended(self, path: str) -> SessionsEnded:
        ended = self._request("POST", path)
        if not is_sessions_ended(ended):
            raise self._unknown_server()
        return ended

    def _usage(self, method: str, path: str, run_id: str) -> RunUsage:
        usage = self._request(method, path, run_id)
        if not is_run_usage(usage):
            raise self._unknown_server()
        return usage

    def _request(
        self, method: str, path: str, name: str = "", document: Mapping[str, object] | None = None
    ) -> object:
        data = b"" if document is None else json.dumps(document).encode()
        status, body = self._send(method, path, data)
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if status != HTTPStatus.OK:
            raise self._refusal(status, answer if isinstance(answer, dict) else {}, name)
        return answer

    def _send(self, method: str, path: str, data: bytes) -> tuple[int, bytes]:
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        try:
            body = data if method == "POST" else None
            request = Request(self._url + path, body, headers, method=method)  # noqa: S310 - the settings allow only http and https
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                return response.status, response.read(MAX_ANSWER_BYTES)
        except OSError as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise ServerUnreachableError(
                f"No answer from PROXY_URL, {self._url}: {reason}. Is the server running?"
            ) from None
        except (InvalidURL, ValueError, OverflowError) as error:
            raise UnusableSettingsError(f"PROXY_URL, {self._url}, is not usable: {error}") from None
        except HTTPException:
            raise self._unknown_server() from None

    def _refusal(self, status: int, answer: dict[str, Any], name: str) -> SpendError:
        code = answer.get("code")
        if status == HTTPStatus.UNAUTHORIZED:
            return KeyRefusedError(
                f"{self._url} refuses the key: ADMIN_API_KEY here differs from the server's."
            )
        if code == "run_not_found":
            return RunUnknownError(
                f"The server does not know the run {name!r}: it has no calls yet, or it was forgotten."
            )
        if code == "budget_not_found":
            return BudgetUnknownError(
                f"The server does not know the budget {name!r}: `ridges-proxy budgets list` shows all."
            )
        if code == "not_found":
            return ServerRefusedError(
                f"{self._url} has no /admin routes: ADMIN_API_KEY is not set on the server."
                " Set it there, and restart the server."
            )
        if not isinstance(code, str):
            return self._unknown_server(f" {status}")
        message = visible(f"{status} {code}: {_detail_text(answer.get('detail'))}")
        return ServerRefusedError(f"{self._url} answered {message}")

    def _unknown_server(self, status: str = "") -> ServerRefusedError:
        return ServerRefusedError(
            f"{self._url} answered{status}, but the answer is not from Ridges AI Proxy. Check PROXY_URL."
        )


class _NoErrors(HTTPErrorProcessor):
    """Return answers of every status. Follows no redirect, because the key must not go to another server."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:  # noqa: ARG002 - urllib's signature
        return response

    https_response = http_response


def _path(run_id: str) -> str:
    return f"/admin/runs/{quote(run_id, safe='', errors=ESCAPES)}"


def _detail_text(detail: object) -> str:
    """Format the detail of an error: a text, or a list of invalid fields."""
    if isinstance(detail, list):
        return "; ".join(_field_problem(problem) for problem in detail if isinstance(problem, dict))
    return str(detail)


def _field_problem(problem: dict[str, Any]) -> str:
    loc = problem.get("loc")
    return f"{loc[-1] if isinstance(loc, list) and loc else '?'}: {problem.get('msg')}"
