"""The pictures of the dashboard are of a simulated day: time passes as fast as its calls can be made."""

from __future__ import annotations

import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.day.load import DAY, HOUR, MINUTE, load_share
from tests.browser.day.pictures import take_all
from tests.browser.day.scenes import END, SCENES
from tests.support.table import check_rows

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[2]

TASKS = """
from tests.browser.day.simulated_time import SimulatedTime

clock = SimulatedTime(1000.0)
clock.install()
import time
seen = []

def task(name, seconds):
    for _ in range(2):
        clock.sleep(seconds)
        seen.append((name, time.time(), time.monotonic()))

clock.spawn(lambda: task("slow", 7200.0), at=1000.0)
clock.spawn(lambda: task("fast", 3600.0), at=2800.0)
clock.run_until(10_000.0)
print(seen, time.time())
"""


def png_size(file: Path) -> tuple[int, int]:
    width, height = struct.unpack(">II", file.read_bytes()[16:24])
    return width, height


def test_a_page_of_a_simulated_scene_is_photographed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take_all(tmp_path, "5", ["runs"], [("390", "dark")])
    width, height = png_size(tmp_path / "5" / "runs-390-dark.png")
    assert width == 2 * 390
    assert height > 2 * 844
    playing, taken = capsys.readouterr().out.splitlines()
    assert playing.startswith("playing the scene 5")
    assert taken == str(tmp_path / "5" / "runs-390-dark.png")


def test_two_tasks_share_the_simulated_time_in_the_order_of_their_alarms() -> None:
    done = subprocess.run([sys.executable, "-c", TASKS], cwd=ROOT, capture_output=True, text=True, check=True)
    fast, slow = [("fast", 6400.0, 6400.0), ("fast", 10_000.0, 10_000.0)], [("slow", 8200.0, 8200.0)]
    assert done.stdout.strip() == f"{[fast[0], slow[0], fast[1]]} 10000.0"


def test_each_scene_ends_at_the_time_of_the_pictures_and_is_the_same_each_time() -> None:
    def check(name: str) -> None:
        scene, again = SCENES[name](), SCENES[name]()
        assert scene == again
        assert scene.starts_at + scene.seconds == END
        assert len({(run.id, run.starts_at) for run in scene.runs}) == len(scene.runs)
        assert all(scene.starts_at <= run.starts_at < END for run in scene.runs)

    check_rows(SCENES, check)


def test_the_load_rises_in_the_morning_and_falls_at_lunch_without_jumps() -> None:
    loads = [load_share(minute * MINUTE) for minute in range(round(DAY / MINUTE))]
    assert max(abs(later - earlier) for earlier, later in pairwise(loads)) < 0.01
    assert load_share(4 * HOUR) < 0.15 < load_share(12.5 * HOUR) < load_share(11.5 * HOUR)
