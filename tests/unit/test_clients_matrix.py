"""The page of the clients shows the versions and the rows that the tests of the clients have."""

from __future__ import annotations

from pathlib import Path

from bench.pages import part_of
from tests.clients.client import all_clients
from tests.clients.matrix import PART, matrix
from tests.clients.scenarios import ROWS
from tests.support.table import check_rows

PAGE = Path(__file__).parents[2] / "docs" / "start" / "clients.md"


def test_the_matrix_is_up_to_date() -> None:
    assert part_of(PAGE.read_text("utf-8"), PART).strip() == matrix().strip(), "make docs"


def test_every_client_has_a_driver_and_names_only_rows_that_exist() -> None:
    names = {row.name for row in ROWS}

    def check(client: object) -> None:
        (found,) = [each for each in all_clients() if each.name == client]
        assert found.version
        assert len(list(found.folder.glob("driver.*"))) == 1
        assert found.absent.keys() <= names
        assert found.run_busy in {"retries", "raises"}

    check_rows([client.name for client in all_clients()], check)
