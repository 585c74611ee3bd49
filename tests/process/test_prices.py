"""`flask prices check` against the fake Chutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from ridges_proxy.cli.prices import prices
from ridges_proxy.config import DEFAULT_MODEL
from tests.process.server import clean_environment
from tests.process.wire import PATIENCE_SECONDS
from tests.support.table import each_row

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the current folder one without a .env file, which the commands would read."""
    monkeypatch.chdir(tmp_path)


def check_prices(fake_chutes: Upstream, price: object, *options: str) -> Result:
    """Run `prices check` in this process, with a price for the default model."""
    environ = clean_environment(fake_chutes, MODEL_PRICES=json.dumps({DEFAULT_MODEL: price}))
    return CliRunner().invoke(prices, ["check", *options], env=environ)


def test_the_default_price_is_the_price_of_the_fake_chutes(fake_chutes: Upstream, tmp_path: Path) -> None:
    """The command is started as a process here, and called in this process by the other tests."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("flask")), "prices", "check"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "CHUTES_BASE_URL": fake_chutes.chat_url},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2].endswith("same")


@each_row(
    ("price", "verdict", "status"),
    [
        (0.1, "ours is lower", 5),
        ({"input": 0.27, "output": 0.26}, "ours is lower", 5),
        ({"input": 0.28, "output": 0.27}, "ours is higher", 6),
        ({"input": 0.27, "output": 0.27, "upstream": "moonshotai/Kimi-K2-Instruct"}, "same", 0),
        ({"input": 0.27, "output": 0.27, "upstream": "nobody/has-it"}, "not offered upstream", 6),
    ],
)
@pytest.mark.usefixtures("empty_folder")
def test_check_compares_a_price_with_the_upstreams_price(
    fake_chutes: Upstream, price: object, verdict: str, status: int
) -> None:
    result = check_prices(fake_chutes, price, "--json")

    assert result.exit_code == status
    (model,) = json.loads(result.stdout)["models"]
    assert (model["verdict"], model["warning"]) == (verdict, None)


@pytest.mark.usefixtures("empty_folder")
def test_check_warns_of_a_price_per_token(fake_chutes: Upstream) -> None:
    result = check_prices(fake_chutes, 0.27e-6)

    assert result.exit_code == 5
    assert f"Warning: {DEFAULT_MODEL}: the configured price is about a millionth" in result.stderr
