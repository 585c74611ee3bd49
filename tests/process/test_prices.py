"""`flask prices check` against the fake Chutes, process to process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ridges_proxy.config import DEFAULT_MODEL
from tests.process.wire import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.process.fake_chutes_control import Upstream


def flask_prices(folder: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("flask")), "prices", *command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_the_default_price_is_the_fake_chutess(fake_chutes: Upstream, tmp_path: Path) -> None:
    done = flask_prices(tmp_path, "check", CHUTES_BASE_URL=fake_chutes.chat_url)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].rstrip().endswith("same")


@pytest.mark.parametrize(
    ("price", "verdict", "status"),
    [
        (0.1, "ours is lower", 5),
        ({"input": 0.27, "output": 0.26}, "ours is lower", 5),
        ({"input": 0.28, "output": 0.27}, "ours is higher", 6),
        ({"input": 0.27, "output": 0.27, "upstream": "moonshotai/Kimi-K2-Instruct"}, "same", 0),
        ({"input": 0.27, "output": 0.27, "upstream": "nobody/has-it"}, "not offered upstream", 6),
    ],
)
def test_a_price_is_judged_by_the_fake_chutess(
    fake_chutes: Upstream, tmp_path: Path, price: object, verdict: str, status: int
) -> None:
    listed = json.dumps({DEFAULT_MODEL: price})

    done = flask_prices(
        tmp_path, "check", "--json", CHUTES_BASE_URL=fake_chutes.chat_url, MODEL_PRICES=listed
    )

    assert done.returncode == status
    (model,) = json.loads(done.stdout)["models"]
    assert (model["verdict"], model["warning"]) == (verdict, None)


def test_a_price_per_token_is_warned_of(fake_chutes: Upstream, tmp_path: Path) -> None:
    listed = json.dumps({DEFAULT_MODEL: 0.27e-6})

    done = flask_prices(tmp_path, "check", CHUTES_BASE_URL=fake_chutes.chat_url, MODEL_PRICES=listed)

    assert done.returncode == 5
    assert f"Warning: {DEFAULT_MODEL}: ours is about a millionth" in done.stderr
