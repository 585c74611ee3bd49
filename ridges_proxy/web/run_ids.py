"""Run ids in the paths of routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.routing import BaseConverter

if TYPE_CHECKING:
    from flask.sansio.blueprints import BlueprintSetupState


class RunIdConverter(BaseConverter):
    """Any run's id: werkzeug's own `path` takes none that begins with a slash."""

    regex = r"(?s:.+?)"
    part_isolating = False


def know_run_ids(state: BlueprintSetupState) -> None:
    """Let a blueprint's routes have `<run:…>`. To be recorded before they are."""
    state.app.url_map.converters["run"] = RunIdConverter
