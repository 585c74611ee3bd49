from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder

from ridges_proxy.web.flask_app import MAX_HOSTS, ProxyFlask
from tests.support.table import check_rows

if TYPE_CHECKING:
    from werkzeug.routing import MapAdapter

HOSTS = ["bench", "Bench:80", "bench:443", "[::1]:8000", "a..b", f"{'a' * 64}.example", "a b", "", "é", None]


def app() -> ProxyFlask:
    made = ProxyFlask("test")
    made.url_map.merge_slashes = False
    made.add_url_rule("/", "landing", str)
    made.add_url_rule("/v1/models/<path:name>", "model", str)
    made.add_url_rule("/pages/", "pages", str)  # redirects from /pages
    return made


APP = app()


def environ_of(path: str, host: str | None, scheme: str, changes: dict[str, Any]) -> dict[str, Any]:
    environ = EnvironBuilder(base_url=f"{scheme}://server:8000").get_environ()
    environ |= {"PATH_INFO": path.encode().decode("latin1"), "HTTP_HOST": host, **changes}
    return {name: value for name, value in environ.items() if value is not None}


def found_by(adapter_of: Any, environ: dict[str, Any]) -> object:  # noqa: ANN401 - a method of the class
    """The route and the URL of a page, or the error and the URL of a redirect."""
    try:
        adapter: MapAdapter = adapter_of(APP, APP.request_class(environ))
        return adapter.match(), adapter.build("landing", force_external=True)
    except HTTPException as error:
        return type(error), error.code, getattr(error, "new_url", None)


@given(
    path=st.sampled_from(["", "/", "//", "/pages", "/pages/", "//pages", "/v1/models/a//b"]) | st.text(),
    host=st.sampled_from(HOSTS) | st.text(st.characters(codec="latin1")),
    scheme=st.sampled_from(["http", "https"]),
    query=st.sampled_from(["", "a=1&b=%20", "\xff"]),
    upgrade=st.sampled_from([None, "websocket", "h2c"]),
)
def test_a_route_is_found_as_flask_finds_it(
    path: str, host: str | None, scheme: str, query: str, upgrade: str | None
) -> None:
    connection = None if upgrade is None else "Upgrade"
    changes = {"QUERY_STRING": query, "HTTP_UPGRADE": upgrade, "HTTP_CONNECTION": connection}
    environ = environ_of(path, host, scheme, changes)
    assert found_by(ProxyFlask.create_url_adapter, environ) == found_by(Flask.create_url_adapter, environ)


def test_a_request_has_the_blueprints_that_flask_finds_in_the_name_of_its_route() -> None:
    def check(endpoint: str) -> None:
        ours, flasks = (
            APP.request_class({**environ_of("/", None, "http", {})}),
            Request(environ_of("/", None, "http", {})),
        )
        ours.url_rule = flasks.url_rule = APP.url_rule_class("/", endpoint=endpoint)
        assert ours.blueprints == flasks.blueprints

    check_rows(["view", "pages.view", "outer.inner.view", "a.b.c.view"], check)


def test_the_names_of_few_hosts_are_kept() -> None:
    made = app()
    for number in range(2 * MAX_HOSTS):
        made.create_url_adapter(made.request_class(environ_of("/", f"host-{number}", "http", {})))
    assert made._server_name.cache_info().currsize == MAX_HOSTS


def test_nothing_can_be_kept_in_the_session_of_an_app_without_sessions() -> None:
    session = APP.session_interface.open_session(APP, APP.request_class(environ_of("/", None, "http", {})))
    assert session is not None
    with pytest.raises(RuntimeError, match="session is unavailable"):
        session["name"] = 1
