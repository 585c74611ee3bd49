"""The settings that run, for operators: digests, and the state of the last reload."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ridges_proxy.config.digests import digest, digests_of
from ridges_proxy.runtime.iso_time import iso_time

if TYPE_CHECKING:
    from ridges_proxy.web.services import Services


def settings_json(services: Services) -> dict[str, Any]:
    """The answer of `GET /admin/settings`. A worker answers for itself, and names the others."""
    in_force = dataclasses.replace(
        services.settings, model_prices=services.prices.prices, budgets=services.budgets.all
    )
    key = in_force.admin_api_key or ""
    digests = digests_of(in_force, key)
    state = services.accepted.state()
    return {
        "version": version("ridges-proxy"),
        "began_at": iso_time(state.began_at),
        "accepted_at": iso_time(state.accepted_at),
        "reloads": state.reloads,
        "problems": list(state.problems),
        "workers": [
            {"pid": each.pid, "began_at": iso_time(each.began_at), "current": each.number == state.number}
            for each in services.accepted.serving()
        ],
        "digest": digest(key, "", digests),
        "settings": digests,
    }
