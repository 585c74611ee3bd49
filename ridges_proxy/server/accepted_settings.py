"""The settings that the master has accepted. Only the master reads settings; its workers get them from it.

A worker that starts later, for example after a crash, must not read an edited file that no reload has
accepted. So a new worker inherits the settings when it is forked. New prices and budgets reach running
workers by shared memory.
"""

from __future__ import annotations

import json
import time
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ridges_proxy.config import Settings, budget_text, load_settings, price_text, read_environment
from ridges_proxy.runtime.shared_record import SharedRecord
from ridges_proxy.server.serving_workers import ServingWorkers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ridges_proxy.billing.budgets import Budget
    from ridges_proxy.billing.prices import Price
    from ridges_proxy.server.serving_workers import ServingWorker

MAX_BYTES = 16 << 20
"""Prices of a file of a million characters fit in. Only what is used takes memory."""


class InPlace(NamedTuple):
    """The settings that running workers take over. All others need new workers."""

    prices: Mapping[str, Price]
    budgets: tuple[Budget, ...]

    @classmethod
    def of(cls, settings: Settings) -> InPlace:
        """Return those of the settings."""
        return cls(settings.model_prices, settings.budgets)


@dataclass(frozen=True, slots=True)
class ReloadState:
    """The reloads of a master."""

    began_at: float
    """When the server began, in seconds since 1970."""
    accepted_at: float
    """When the present settings were accepted."""
    reloads: int = 0
    """The number of reloads since the start, accepted or refused."""
    number: int = 0
    """The number of the present settings: how many reloads were accepted before."""
    workers_number: int = 0
    """The number of the settings for which all workers were replaced last."""
    problems: tuple[str, ...] = ()
    """Why the last reload was refused. Empty if it was accepted."""


class AcceptedSettings:
    """The settings of one server. The master changes them, and each worker knows those that it has."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        now = time.time()
        self._state = ReloadState(began_at=now, accepted_at=now)
        self._record = SharedRecord(MAX_BYTES)
        self._workers = ServingWorkers()
        self._age: int | None = None
        self._publish("")

    @property
    def settings(self) -> Settings:
        """In the master: those accepted last. In a worker: those with which it started."""
        return self._settings

    # --- in the master

    def accept(self, settings: Settings) -> None:
        """Accept settings for which the workers will be replaced."""
        self._accept(settings, "", self._state.number + 1)

    def accept_in_place(self, settings: Settings) -> bool:
        """Accept settings of which only `InPlace` is new. Returns False if it is too long for the record."""
        return self._accept(settings, _text_of(InPlace.of(settings)), self._state.workers_number)

    def refuse(self, problems: list[str]) -> None:
        """Note that a reload was refused."""
        self._state = replace(
            self._state, reloads=self._state.reloads + 1, problems=tuple(problems) or ("unknown",)
        )
        self._publish(self._read()[1])

    def forget(self, age: int) -> None:
        """Note that a worker has ended."""
        self._workers.leave(age)

    def _accept(self, settings: Settings, in_place: str, workers_number: int) -> bool:
        before = self._state
        self._state = ReloadState(
            began_at=before.began_at,
            accepted_at=time.time(),
            reloads=before.reloads + 1,
            number=before.number + 1,
            workers_number=workers_number,
        )
        if not self._publish(in_place):
            self._state = before
            return False
        self._settings = settings
        return True

    def _publish(self, in_place: str) -> bool:
        return self._record.write(json.dumps([asdict(self._state), in_place]).encode())

    # --- in a worker

    def enter(self, age: int) -> None:
        """Note that this worker accepts connections."""
        self._age = age
        self._workers.enter(age, self._state.number)

    def leave(self) -> None:
        """Note that this worker accepts no more connections."""
        if self._age is not None:
            self._workers.leave(self._age)

    def take_in_place(self, loaded: InPlace) -> InPlace | None:
        """Return what the master accepted for running workers since this one started; None if nothing.

        Raises ValueError if it cannot be loaded.
        """
        state, text = self._read()
        if state.number == self._state.number or state.workers_number != self._state.workers_number:
            return None
        new = _parsed(text, loaded) if text else loaded
        self._state = state
        if self._age is not None:
            self._workers.update(self._age, state.number)
        return new

    # --- for operators

    def state(self) -> ReloadState:
        """Return what the master has done, as it is now."""
        return self._read()[0]

    def serving(self) -> list[ServingWorker]:
        """Return the workers that accept connections."""
        return self._workers.all()

    def _read(self) -> tuple[ReloadState, str]:
        content = self._record.read()
        if content is None:  # the master writes: its signal follows
            return self._state, ""
        state, in_place = json.loads(content)
        return ReloadState(**{**state, "problems": tuple(state["problems"])}), in_place


def _text_of(in_place: InPlace) -> str:
    return json.dumps([price_text.to_text(in_place.prices), budget_text.to_text(in_place.budgets)])


def _parsed(text: str, loaded: InPlace) -> InPlace:
    prices, budgets = json.loads(text)
    return InPlace(price_text.from_text(prices, loaded.prices), budget_text.from_text(budgets))


_OF_MASTER: ContextVar[AcceptedSettings | None] = ContextVar("accepted_settings_of_master", default=None)
"""A reload and the workers, which are forked, have the context in which the master read its configuration."""


def accepted_settings() -> AcceptedSettings:
    """Return the settings that the master has accepted. Outside a server, read them.

    Raises SettingsError, which names all problems.
    """
    return _OF_MASTER.get() or AcceptedSettings(load_settings(Settings, read_environment()))


def share_settings() -> AcceptedSettings:
    """Read the settings in the master, once, and keep them for its reloads and its workers."""
    accepted = accepted_settings()
    _OF_MASTER.set(accepted)
    return accepted
