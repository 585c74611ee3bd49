"""The interface of the service to gunicorn's hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ridges_proxy.billing.budgets import Budgets
    from ridges_proxy.billing.price_list import PriceList
    from ridges_proxy.runtime.turns import Turns
    from ridges_proxy.server.accepted_settings import AcceptedSettings
    from ridges_proxy.telemetry.traces import Traces

EXTENSION = "ridges_proxy"
"""The key of the service in `app.extensions`."""


class Task(Protocol):
    """A background task of a worker."""

    def start(self) -> None:
        """Start its greenlet. Call it once, after the fork."""
        ...


class StoppableTask(Protocol):
    """A background task that ends before its worker."""

    def stop(self) -> None:
        """Begin nothing new."""
        ...


class FlushedTask(Protocol):
    """A task that keeps results for its next turn."""

    def flush(self) -> None:
        """Write the results. Raises LedgerUnavailableError."""
        ...


class SweeperTask(Task, StoppableTask, Protocol):
    """The sweeper."""


class InFlightCalls(Protocol):
    """The calls in flight of a worker."""

    @property
    def in_flight(self) -> int:
        """The number of admitted calls that have not ended."""
        ...

    def drain(self) -> None:
        """Report that the process is shutting down. Calls are still admitted."""
        ...

    def close(self) -> None:
        """Admit no new calls."""
        ...

    def end_all(self) -> None:
        """End all calls in flight, and wait until their holds have settled."""
        ...


class WorkerServices(Protocol):
    """The services of one worker; `ridges_proxy.web.services.Services` is the implementation.

    A protocol, because the server must not import the web wing above it.
    """

    @property
    def accepted(self) -> AcceptedSettings:
        """The settings that the master has accepted."""
        ...

    @property
    def prices(self) -> PriceList:
        """The prices in force."""
        ...

    @property
    def budgets(self) -> Budgets:
        """The budgets in force."""
        ...

    @property
    def sweeper(self) -> SweeperTask:
        """The sweeper of the ledger."""
        ...

    @property
    def alerts(self) -> StoppableTask:
        """The delivery of alerts."""
        ...

    @property
    def background(self) -> Task:
        """The background tasks, run once a second."""
        ...

    @property
    def history(self) -> Task:
        """The samples of the metrics, one a minute."""
        ...

    @property
    def admission(self) -> InFlightCalls:
        """The calls in flight."""
        ...

    @property
    def refusals(self) -> FlushedTask:
        """The counts of refused calls."""
        ...

    @property
    def turns(self) -> Turns:
        """The large bodies that wait to be prepared."""
        ...

    @property
    def traces(self) -> Traces | None:
        """The exporter of traces; None if none is configured."""
        ...

    def finish_connection(self, environ: WSGIEnvironment) -> bool:
        """Prepare a connection for its next request. Returns False if it must be closed instead."""
        ...
