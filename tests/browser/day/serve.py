"""Play a scene, then serve its dashboard: `python -m tests.browser.day.serve [SCENE] [--port PORT]`.

The time stands still at the end of the scene. Sign in with the key that is printed.
"""

from __future__ import annotations

# The order matters: gevent replaces the sockets, the simulated time the clocks, before any module uses them.
from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

from tests.browser.day.scenes import SCENES  # noqa: E402
from tests.browser.day.simulated_time import SimulatedTime  # noqa: E402


def main() -> None:
    """Play and serve until interrupted."""
    parser = argparse.ArgumentParser(description="Serves the dashboard of a simulated day.")
    parser.add_argument("scene", nargs="?", default="day", choices=list(SCENES))
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    arguments = parser.parse_args()
    scene = SCENES[arguments.scene]()
    clock = SimulatedTime(scene.starts_at)
    clock.install()

    from gevent.pywsgi import WSGIServer  # noqa: PLC0415

    from tests.browser.day.service import Day  # noqa: PLC0415
    from tests.support.app import ADMIN_KEY  # noqa: PLC0415

    with TemporaryDirectory(prefix="ridges-day-") as folder:
        day = Day.of(scene, clock, Path(folder))
        day.play()
        server = WSGIServer(("127.0.0.1", arguments.port), day.app, log=None)
        server.start()
        sys.stdout.write(f"key {ADMIN_KEY} for http://127.0.0.1:{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
