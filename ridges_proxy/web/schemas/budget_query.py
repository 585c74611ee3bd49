"""Queries of `GET /admin/budgets` and of its page, and the bodies that change a budget."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from marshmallow import ValidationError

from ridges_proxy.web.schemas.request_schema import RequestSchema
from ridges_proxy.web.schemas.run_query import MAX_LIST_LIMIT, MAX_LIST_OFFSET, QueryChoice, QueryInteger
from ridges_proxy.web.schemas.run_token import Group, Usd
from ridges_proxy.web.schemas.values import Name


class LevelState(StrEnum):
    """How much of a level is spent, if it is much. The value is also the name of its colour."""

    NEAR = "near"
    """At least 80 %: it is nearly used up."""
    FULL = "full"
    """All: it is used up."""


class LevelQuerySchema(RequestSchema):
    """Which levels of one budget. A query has no null, so no field allows it."""

    search = Name(data_key="scope", allow_none=False)
    ended = QueryChoice({"0": False, "1": True}, allow_none=False)
    offset = QueryInteger(0, MAX_LIST_OFFSET, allow_none=False)
    limit = QueryInteger(1, MAX_LIST_LIMIT, allow_none=False)


class BudgetQuerySchema(LevelQuerySchema):
    """Which levels of which budgets."""

    budget = Name(allow_none=False)


class BudgetPageQuerySchema(RequestSchema):
    """Which levels the dashboard shows."""

    budget = Name(allow_none=False)
    state = QueryChoice({state.value: state for state in LevelState}, allow_none=False)
    offset = QueryInteger(0, MAX_LIST_OFFSET, allow_none=False)
    limit = QueryInteger(1, MAX_LIST_LIMIT, allow_none=False)


class ScopeSchema(RequestSchema):
    """The levels of a budget that are meant: those of one scope, or all."""

    group = Group()
    scope = Name(min_length=1)

    def load(self, data: Any, **options: Any) -> Any:  # noqa: ANN401 - marshmallow's
        """The validated fields, of which at most one names the scope."""
        fields = super().load(data, **options)
        if None not in (fields.get("group"), fields.get("scope")):
            raise ValidationError({"scope": ["Input should not name a group and a scope: send one of them"]})
        return fields


class ResetBudgetSchema(ScopeSchema):
    """The levels whose spent amounts are set to zero."""


class SetAmountSchema(ScopeSchema):
    """An amount in place of the one in BUDGETS. Null: the one in BUDGETS again."""

    usd = Usd(required=True, allow_none=True)
