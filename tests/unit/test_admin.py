from __future__ import annotations

from importlib.metadata import version
from itertools import product
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from ridges_proxy import create_app
from ridges_proxy.config.digests import differing, digests_of
from ridges_proxy.errors import LedgerUnavailableError
from ridges_proxy.ledger import Hold, Kind, MemoryLedger, Run, RunPage, RunQuery
from ridges_proxy.server.service import EXTENSION
from tests.support.app import ADMIN_KEY, AGENT, CHUTES_KEY, OPERATOR, PROXY_KEY, settings_of
from tests.support.clock import Clock
from tests.support.table import check_rows

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

CAP_NANOUSD = 2_000_000_000
TTL_SECONDS = 1200.0
HOLD_SECONDS = 300.0

ROUTES = [
    ("GET", "/admin/runs"),
    ("GET", "/admin/runs/alpha"),
    ("POST", "/admin/runs/alpha/reset"),
    ("POST", "/admin/sweep"),
    ("GET", "/admin/settings"),
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> MemoryLedger:
    return MemoryLedger(TTL_SECONDS, clock)


@pytest.fixture
def client(ledger: MemoryLedger) -> FlaskClient:
    return client_of(ledger)


def client_of(ledger: MemoryLedger, **settings: str) -> FlaskClient:
    return create_app(settings_of(**settings), ledger).test_client()


@pytest.fixture
def three_runs(ledger: MemoryLedger, clock: Clock) -> None:
    """alpha spent most, beta calls most, gamma holds and was active last."""
    spend(ledger, "alpha", 900_000_000)
    clock.advance(10)
    for _ in range(3):
        spend(ledger, "beta", 100_000_000, Kind.EMBEDDING)
    clock.advance(10)
    spend(ledger, "gamma/1", 200_000_000)
    hold(ledger, "gamma/1", 50_000_000)
    clock.advance(5)


OUTCOME_OF_A_ROW: dict[str, Any] = {
    "groups": [],
    "ended_by": None,
    "first_call_at": None,
    "last_call_at": None,
    "refused": {},
    "prompt_tokens": None,
    "completion_tokens": None,
    "costs": [],
}
"""The outcome in a list of runs, of one that may go on: the ledger gives the detail of single runs only."""


def hold(ledger: MemoryLedger, run_id: str, amount_nanousd: int, kind: Kind = Kind.INFERENCE) -> Hold:
    return ledger.reserve(Run(run_id, CAP_NANOUSD), kind, amount_nanousd, amount_nanousd, HOLD_SECONDS)


def spend(ledger: MemoryLedger, run_id: str, cost_nanousd: int, kind: Kind = Kind.INFERENCE) -> None:
    ledger.settle(hold(ledger, run_id, cost_nanousd, kind), cost_nanousd)


def ask(client: FlaskClient, method: str, path: str) -> TestResponse:
    return client.open(path, method=method, headers=OPERATOR)


def listed(client: FlaskClient, query: str = "") -> dict[str, Any]:
    reply = ask(client, "GET", f"/admin/runs?{query}")
    assert reply.status_code == 200, reply.text
    page: dict[str, Any] = reply.get_json()
    return page


def ids(client: FlaskClient, query: str = "") -> list[str]:
    return [run["run_id"] for run in listed(client, query)["runs"]]


def assert_refused(reply: TestResponse, status: int, code: str) -> None:
    assert reply.status_code == status
    assert reply.content_type == "application/json"
    body = reply.get_json()
    assert body["code"] == code
    assert body["request_id"] == reply.headers["X-Request-ID"]


@pytest.mark.usefixtures("three_runs")
def test_a_run_is_listed_with_all_of_its_usage(client: FlaskClient) -> None:
    assert listed(client, "search=gamma")["runs"] == [
        {
            "run_id": "gamma/1",
            "max_cost_usd": 2.0,
            "used_cost_usd": 0.2,
            "held_cost_usd": 0.05,
            "remaining_cost_usd": 1.75,
            "inference_cost_usd": 0.2,
            "embedding_cost_usd": 0.0,
            "calls": 1,
            "budgets": [],
            "in_flight": 1,
            "idle_seconds": 5.0,
            "closed": False,
            "finished": False,
            **OUTCOME_OF_A_ROW,
        }
    ]


def test_an_empty_ledger_lists_nothing(client: FlaskClient) -> None:
    counts = {"all": 0, "in_flight": 0, "near": 0, "exhausted": 0, "closed": 0}
    assert listed(client) == {"runs": [], "total": 0, "counts": counts, "offset": 0, "limit": 100}


@pytest.mark.usefixtures("three_runs")
def test_filters_keep_the_runs_that_match_all_of_them(client: FlaskClient) -> None:
    def check(row: tuple[str, list[str]]) -> None:
        query, expected = row
        assert ids(client, query) == expected
        assert listed(client, query)["total"] == len(expected)

    rows: list[tuple[str, list[str]]] = [
        ("", ["alpha", "beta", "gamma/1"]),
        ("search=a", ["alpha", "beta", "gamma/1"]),
        ("search=", ["alpha", "beta", "gamma/1"]),
        ("search=et", ["beta"]),
        ("search=gamma%2F", ["gamma/1"]),
        ("search=ALPHA", []),
        ("search=.*", []),
        ("min_spent_usd=0.3", ["alpha", "beta"]),
        ("min_spent_usd=0.300000001", ["alpha"]),
        ("min_spent_usd=0", ["alpha", "beta", "gamma/1"]),
        ("in_flight=true", ["gamma/1"]),
        ("in_flight=false", ["alpha", "beta"]),
        ("in_flight=false&min_spent_usd=0.5&search=l", ["alpha"]),
        ("in_flight=true&search=alpha", []),
    ]
    check_rows(rows, check)


def test_a_state_filters_the_list_by_the_budget_in_force_and_its_counts_are_of_all_states(
    ledger: MemoryLedger,
) -> None:
    """The settings' budget has changed since the calls, from 2 USD to 1 USD."""
    client = client_of(ledger, MAX_COST_PER_RUN="1")
    for run_id, cost_nanousd in (("far", 799_999_999), ("near", 800_000_000), ("spent", CAP_NANOUSD)):
        spend(ledger, run_id, cost_nanousd)
    spend(ledger, "closed", CAP_NANOUSD)
    ledger.close(Run("closed", CAP_NANOUSD))
    hold(ledger, "far", 1)

    def check(row: tuple[str, list[str]]) -> None:
        query, expected = row
        page = listed(client, query)
        assert [run["run_id"] for run in page["runs"]] == expected
        assert page["total"] == len(expected)
        assert page["counts"] == {"all": 4, "in_flight": 1, "near": 1, "exhausted": 1, "closed": 1}

    rows: list[tuple[str, list[str]]] = [
        ("", ["closed", "spent", "near", "far"]),
        ("state=in_flight", ["far"]),
        ("state=near", ["near"]),
        ("state=exhausted", ["spent"]),
        ("state=closed", ["closed"]),
    ]
    check_rows(rows, check)
    assert ids(client, "state=exhausted&in_flight=true") == []


@pytest.mark.usefixtures("three_runs")
def test_every_sort_key_orders_the_list(client: FlaskClient) -> None:
    def check(row: tuple[str, list[str]]) -> None:
        sort, expected = row
        assert ids(client, f"sort={sort}") == expected

    rows = [
        ("spent", ["alpha", "beta", "gamma/1"]),
        ("held", ["gamma/1", "alpha", "beta"]),
        ("calls", ["beta", "alpha", "gamma/1"]),
        ("idle", ["gamma/1", "beta", "alpha"]),
        ("run_id", ["alpha", "beta", "gamma/1"]),
    ]
    check_rows(rows, check)


def test_pages_make_up_the_complete_list_and_each_has_the_total(
    client: FlaskClient, ledger: MemoryLedger
) -> None:
    for number in range(7):
        spend(ledger, f"run-{number}", 1_000_000 * (7 - number))
    pages = [listed(client, f"offset={offset}&limit=3") for offset in (0, 3, 6, 9)]
    assert [len(page["runs"]) for page in pages] == [3, 3, 1, 0]
    assert [run["run_id"] for page in pages for run in page["runs"]] == [
        f"run-{number}" for number in range(7)
    ]
    assert {page["total"] for page in pages} == {7}
    assert [(page["offset"], page["limit"]) for page in pages] == [(0, 3), (3, 3), (6, 3), (9, 3)]


def test_a_page_has_a_hundred_runs_by_default(client: FlaskClient, ledger: MemoryLedger) -> None:
    for number in range(101):
        spend(ledger, f"run-{number}", 1)
    page = listed(client)
    assert (len(page["runs"]), page["total"]) == (100, 101)


def test_an_invalid_query_is_refused_and_its_parameter_is_named(client: FlaskClient) -> None:
    def check(row: tuple[str, str, str]) -> None:
        name, value, kind = row
        reply = ask(client, "GET", f"/admin/runs?{name}={quote(value)}")
        assert_refused(reply, 422, "invalid_request")
        [problem] = reply.get_json()["detail"]
        assert (problem["loc"], problem["type"]) == (["query", name], kind)
        assert problem["msg"]

    rows = [
        ("sort", "cost", "value_error"),
        ("sort", "", "value_error"),
        ("in_flight", "1", "value_error"),
        ("in_flight", "True", "value_error"),
        ("state", "idle", "value_error"),
        ("state", "", "value_error"),
        ("min_spent_usd", "much", "value_error"),
        ("min_spent_usd", "-1", "value_error"),
        ("min_spent_usd", "NaN", "value_error"),
        ("min_spent_usd", "Infinity", "value_error"),
        ("min_spent_usd", "", "value_error"),
        ("offset", "-1", "int_parsing"),
        ("offset", "1.5", "int_parsing"),
        ("offset", "٣", "int_parsing"),
        ("offset", "10001", "value_error"),
        ("limit", "", "int_parsing"),
        ("limit", "0", "value_error"),
        ("limit", "1001", "value_error"),
        ("limit", "9" * 5000, "int_parsing"),
        ("search", "x" * 257, "string_too_long"),
        ("search", "\x1b[31m", "string_pattern_mismatch"),
        ("page", "2", "extra_forbidden"),
        ("min_spent_nanousd", "1", "extra_forbidden"),
    ]
    check_rows(rows, check)


def test_all_problems_of_a_query_are_named_in_one_response(client: FlaskClient) -> None:
    reply = ask(client, "GET", "/admin/runs?sort=x&limit=0&colour=red")
    assert_refused(reply, 422, "invalid_request")
    places = sorted(problem["loc"] for problem in reply.get_json()["detail"])
    assert places == [["query", "colour"], ["query", "limit"], ["query", "sort"]]


def test_the_largest_and_smallest_offset_and_limit_are_allowed(client: FlaskClient) -> None:
    def check(query: str) -> None:
        assert listed(client, query)["runs"] == []

    check_rows(["offset=10000", "limit=1000", "limit=1", "offset=0"], check)


@pytest.mark.usefixtures("three_runs")
def test_showing_a_run_answers_its_usage_and_does_not_count_as_activity(client: FlaskClient) -> None:
    for _ in range(2):
        reply = ask(client, "GET", "/admin/runs/beta")
        assert reply.status_code == 200
        assert reply.get_json() == {
            "run_id": "beta",
            "max_cost_usd": 2.0,
            "used_cost_usd": 0.3,
            "held_cost_usd": 0.0,
            "remaining_cost_usd": 1.7,
            "inference_cost_usd": 0.0,
            "embedding_cost_usd": 0.3,
            "calls": 3,
            "budgets": [],
            "in_flight": 0,
            "idle_seconds": 15.0,
            "closed": False,
            "finished": False,
            **OUTCOME_OF_A_ROW,
            "first_call_at": "1970-01-01T00:16:50.000+00:00",
            "last_call_at": "1970-01-01T00:16:50.000+00:00",
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "costs": [
                {
                    "model": "",
                    "kind": "embedding",
                    "calls": 3,
                    "prompt_tokens": 0,
                    "completion_tokens": 0,
                    "cost_usd": 0.3,
                }
            ],
        }


@pytest.mark.usefixtures("three_runs")
def test_reset_answers_the_usage_before_it_and_leaves_zeros(client: FlaskClient) -> None:
    before = ask(client, "POST", "/admin/runs/beta/reset").get_json()
    assert (before["used_cost_usd"], before["embedding_cost_usd"], before["calls"]) == (0.3, 0.3, 3)
    after = ask(client, "GET", "/admin/runs/beta").get_json()
    assert (after["used_cost_usd"], after["embedding_cost_usd"], after["calls"]) == (0.0, 0.0, 0)
    assert after["remaining_cost_usd"] == after["max_cost_usd"] == 2.0


@pytest.mark.usefixtures("three_runs")
def test_reset_does_not_change_other_runs(client: FlaskClient) -> None:
    ask(client, "POST", "/admin/runs/beta/reset")
    assert [run["used_cost_usd"] for run in listed(client, "sort=run_id")["runs"]] == [0.9, 0.0, 0.2]


def test_holds_in_flight_survive_a_reset_and_are_charged_after_it(
    client: FlaskClient, ledger: MemoryLedger
) -> None:
    spend(ledger, "alpha", 100_000_000)
    open_hold = hold(ledger, "alpha", 40_000_000)
    before = ask(client, "POST", "/admin/runs/alpha/reset").get_json()
    assert (before["used_cost_usd"], before["held_cost_usd"], before["in_flight"]) == (0.1, 0.04, 1)
    between = ask(client, "GET", "/admin/runs/alpha").get_json()
    assert (between["used_cost_usd"], between["held_cost_usd"], between["in_flight"]) == (0.0, 0.04, 1)
    assert between["remaining_cost_usd"] == 1.96
    ledger.settle(open_hold, 30_000_000)
    after = ask(client, "GET", "/admin/runs/alpha").get_json()
    assert (after["used_cost_usd"], after["held_cost_usd"], after["calls"]) == (0.03, 0.0, 1)


def test_an_unknown_run_is_not_found_and_a_reset_does_not_create_it(client: FlaskClient) -> None:
    def check(row: tuple[str, str]) -> None:
        method, suffix = row
        reply = ask(client, method, f"/admin/runs/nobody{suffix}")
        assert_refused(reply, 404, "run_not_found")
        assert reply.get_json()["detail"] == "Run not found"
        assert listed(client)["total"] == 0

    check_rows([("GET", ""), ("POST", "/reset")], check)


def test_a_run_with_any_characters_in_its_id_is_shown_and_reset(
    client: FlaskClient, ledger: MemoryLedger
) -> None:
    def check(run_id: str) -> None:
        spend(ledger, run_id, 1_000_000)
        path = f"/admin/runs/{quote(run_id, safe='')}"
        assert ask(client, "GET", path).get_json()["run_id"] == run_id
        assert ask(client, "POST", f"{path}/reset").get_json()["used_cost_usd"] == 0.001
        usage = ledger.usage(run_id)
        assert usage is not None
        assert usage.spent_nanousd == 0

    rows = [
        "org/agent/7",
        "a//b",
        "a/",
        "reset",
        "a/reset",
        "50% off",
        "a%2Fb",
        "läuft 走",
        "[red]x[/red]",
        "?q=1#top",
        "..",
        "a/../b",
        "a+b&c=d",
    ]
    check_rows(rows, check)


def test_sweep_forgets_idle_runs_and_charges_expired_holds(
    client: FlaskClient, ledger: MemoryLedger, clock: Clock
) -> None:
    spend(ledger, "idle", 1)
    clock.advance(TTL_SECONDS - HOLD_SECONDS)
    hold(ledger, "crashed", 70_000_000)
    clock.advance(HOLD_SECONDS)
    swept = ask(client, "POST", "/admin/sweep").get_json()
    assert swept == {"forgotten_runs": 1, "overdue_holds": 1, "seconds": swept["seconds"]}
    assert swept["seconds"] >= 0
    [run] = listed(client)["runs"]
    assert (run["run_id"], run["used_cost_usd"], run["in_flight"]) == ("crashed", 0.07, 0)


@pytest.mark.usefixtures("three_runs")
def test_a_sweep_with_nothing_to_do_changes_nothing(client: FlaskClient) -> None:
    swept = ask(client, "POST", "/admin/sweep").get_json()
    assert (swept["forgotten_runs"], swept["overdue_holds"]) == (0, 0)
    assert listed(client)["total"] == 3


def test_without_an_admin_key_in_the_settings_the_routes_do_not_exist(ledger: MemoryLedger) -> None:
    spend(ledger, "alpha", 1)
    clients = [client_of(ledger, ADMIN_API_KEY=key) for key in ("", "  ")]

    def check(row: tuple[tuple[str, str], dict[str, str], FlaskClient]) -> None:
        (method, path), headers, client = row
        reply = client.open(path, method=method, headers=headers)
        assert_refused(reply, 404, "not_found")
        assert reply.get_json()["detail"] == "Not Found"

    check_rows(product(ROUTES, (OPERATOR, AGENT, {}, {"Authorization": "Bearer "}), clients), check)


def test_only_the_admin_key_opens_the_routes(ledger: MemoryLedger) -> None:
    spend(ledger, "alpha", 1)

    def check(row: tuple[tuple[str, str], tuple[str, dict[str, str]]]) -> None:
        (method, path), (_, headers) = row
        reply = client_of(ledger).open(path, method=method, headers=headers)
        assert_refused(reply, 401, "invalid_api_key")
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        usage = ledger.usage("alpha")
        assert usage is not None
        assert usage.spent_nanousd == 1

    authorization = OPERATOR["Authorization"]
    headers: dict[str, dict[str, str]] = {
        "no key": {},
        "the proxy key": AGENT,
        "wrong": {"Authorization": "Bearer wrong"},
        "empty": {"Authorization": "Bearer "},
        "no scheme": {"Authorization": authorization.removeprefix("Bearer ")},
        "longer": {"Authorization": authorization + "x"},
        "shorter": {"Authorization": authorization[:-1]},
        "other scheme": {"Authorization": authorization.replace("Bearer", "Basic")},
    }
    check_rows(product(ROUTES, headers.items()), check)


def test_without_the_key_known_and_unknown_runs_get_the_same_response(
    client: FlaskClient, ledger: MemoryLedger
) -> None:
    spend(ledger, "alpha", 1)
    replies = [client.get(f"/admin/runs/{run_id}") for run_id in ("alpha", "nobody")]
    assert [reply.status_code for reply in replies] == [401, 401]
    assert replies[0].get_json()["detail"] == replies[1].get_json()["detail"]


def test_another_method_is_not_allowed(client: FlaskClient) -> None:
    def check(row: tuple[str, str]) -> None:
        method, path = row
        assert_refused(ask(client, method, path), 405, "method_not_allowed")

    rows = [
        ("PUT", "/admin/runs"),
        ("POST", "/admin/runs/alpha"),
        ("GET", "/admin/sweep"),
        ("DELETE", "/admin/runs/a"),
    ]
    check_rows(rows, check)


def test_pages_of_other_sites_get_no_cors_headers(client: FlaskClient) -> None:
    def check(row: tuple[str, str]) -> None:
        method, path = row
        reply = client.open(path, method=method, headers={**OPERATOR, "Origin": "https://evil.test"})
        assert "Access-Control-Allow-Origin" not in reply.headers

    check_rows(ROUTES, check)


class _UnavailableLedger(MemoryLedger):
    """A ledger that does not answer."""

    def list(self, _query: RunQuery) -> RunPage:
        raise LedgerUnavailableError


def test_an_unavailable_ledger_is_a_503() -> None:
    reply = ask(client_of(_UnavailableLedger(TTL_SECONDS)), "GET", "/admin/runs")
    assert_refused(reply, 503, "ledger_unavailable")
    assert reply.headers["Retry-After"] == "5"


# --- the settings that run


def test_the_settings_are_shown_as_digests_only() -> None:
    client = client_of(MemoryLedger(TTL_SECONDS), RUN_TOKEN_KEY="k" * 32)
    reply = ask(client, "GET", "/admin/settings")
    found = reply.get_json()
    assert found["settings"] == digests_of(settings_of(RUN_TOKEN_KEY="k" * 32), ADMIN_KEY)
    assert (found["reloads"], found["problems"], found["workers"]) == (0, [], [])
    assert found["version"] == version("ridges-proxy")
    shown = [key for key in (ADMIN_KEY, PROXY_KEY, CHUTES_KEY, "k" * 32) if key in reply.text]
    assert shown == []


def test_the_settings_have_the_prices_in_force() -> None:
    app = create_app(settings_of())
    before = ask(app.test_client(), "GET", "/admin/settings").get_json()
    prices = settings_of(MODEL_PRICES='{"deepseek-ai/DeepSeek-V3-0324": 7}').model_prices
    app.extensions[EXTENSION].prices.replace(prices)
    found = ask(app.test_client(), "GET", "/admin/settings").get_json()
    assert differing(before["settings"], found["settings"]) == ["MODEL_PRICES"]
    assert before["digest"] != found["digest"]
