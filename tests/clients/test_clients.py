"""Every client that people use, in an environment of its own, against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.client import Client, Driver, selected_clients
from tests.clients.scenarios import perform, rows_of
from tests.support.table import check_rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.fake_chutes_control import Upstream
    from tests.process.server import Proxy


@pytest.mark.timeout(600)  # seconds, for all rows of a client
@pytest.mark.parametrize("client", selected_clients(), ids=lambda client: client.name)
def test_a_client_works_as_the_matrix_says(
    client: Client, proxy: Proxy, fake_chutes: Upstream, tmp_path: Path
) -> None:
    client.must_be_installed()
    rows = rows_of(client)
    with Driver(client, tmp_path) as driver:
        assert driver.announced["version"] == client.version
        assert set(driver.announced["scenarios"]) == {row.scenario for row in rows.values()}

        def check(name: object) -> None:
            perform(client, driver, proxy, fake_chutes, rows[str(name)])

        check_rows(rows, check)
