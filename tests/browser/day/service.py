"""The real app on a simulated day: its ledger is SQLite, its upstream the fake Chutes in this process."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from ridges_proxy import create_app
from ridges_proxy.config import Settings, load_settings
from ridges_proxy.server.metrics_folder import share_metrics
from ridges_proxy.server.service import EXTENSION
from tests.browser.day.agents import Agents, Operator
from tests.browser.day.load import DAY
from tests.browser.day.scenes import END
from tests.browser.day.upstream import start_upstream
from tests.support.app import environ_of

if TYPE_CHECKING:
    from pathlib import Path

    from flask import Flask

    from ridges_proxy.web.services import Services
    from tests.browser.day.scenes import Scene
    from tests.browser.day.simulated_time import SimulatedTime

TICK_SECONDS = 20.0
"""The background tasks run at full multiples of this, also at the turn of each minute, when the metrics are
sampled. In a server they run once a second."""

TOKEN_KEY = "run-token-key-of-the-simulated-day"


@dataclass(frozen=True, slots=True)
class Day:
    """A scene that is being played."""

    scene: Scene
    clock: SimulatedTime
    app: Flask

    @classmethod
    def of(cls, scene: Scene, clock: SimulatedTime, folder: Path) -> Day:
        """Create the app, with its files in the folder."""
        share_metrics()
        upstream = start_upstream(clock)
        environ = environ_of(
            CHUTES_BASE_URL=f"{upstream}/v1",
            CHUTES_EMBEDDING_URL=f"{upstream}/embed",
            LEDGER_URL=f"sqlite:///{folder}/ledger.db",
            RUN_TOKEN_KEY=TOKEN_KEY,
            LOG_LEVEL="ERROR",
            **dict(scene.settings),
        )
        return cls(scene, clock, create_app(load_settings(Settings, environ)))

    def play(self) -> None:
        """Let the time of the scene pass."""
        services: Services = self.app.extensions[EXTENSION]
        self.clock.waiting = lambda: services.calls.hold_waits.waiting
        services.sweeper.start()
        services.history.sample()
        agents = Agents(self.app, self.clock, Random("requests"))
        agents.outage = self.scene.outage
        if self.scene.seconds >= DAY:
            Operator(self.app, self.clock).start(END)
        for run in self.scene.runs:
            agents.start(run)
        sweep_seconds = services.settings.sweep_interval_seconds
        swept_at = self.clock.now
        while (tick := self.clock.now // TICK_SECONDS * TICK_SECONDS + TICK_SECONDS) < END:
            self.clock.run_until(tick)
            services.history.sample()
            services.background.once()
            if tick >= swept_at + sweep_seconds:
                services.sweeper._sweep_once()
                swept_at = tick
        self.clock.run_until(END)
        services.background.once()
