"""The option `usage` of a request, which asks for the cost of the call in the usage of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridges_proxy.web.schemas.containers import Object
from ridges_proxy.web.schemas.field_table import USAGE
from ridges_proxy.web.schemas.values import Switch

if TYPE_CHECKING:
    from collections.abc import Mapping


def usage_option() -> Object:
    """The type of the option: `{"include": true}`, as on OpenRouter."""
    return Object({"include": Switch()}, USAGE)


def asks_for_cost(fields: Mapping[str, Any]) -> bool:
    """Whether validated fields ask for the cost."""
    return bool((fields.get("usage") or {}).get("include"))
