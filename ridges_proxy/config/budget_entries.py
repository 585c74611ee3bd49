"""Parser of BUDGETS. The texts of its ValueErrors follow the setting's name."""

from __future__ import annotations

import re
import reprlib
from decimal import Decimal
from typing import TYPE_CHECKING

from ridges_proxy.billing.budgets import ANY_TEXT, Budget
from ridges_proxy.billing.money import MAX_USD, NANOUSD_DECIMALS, nanousd_from_usd
from ridges_proxy.billing.windows import UTC_ZONE, WINDOWS, zone_of
from ridges_proxy.config.dotenv_file import MAX_PROBLEMS
from ridges_proxy.config.field import ManyProblemsError
from ridges_proxy.config.model_prices import MAX_NAME_CHARACTERS
from ridges_proxy.config.structured_text import read_structure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_BUDGETS = 64
LIST = "budgets"
"""Key of the list in an object or in a TOML file."""

RUN = "run"
"""Name of each run's own budget in answers and alerts. No other budget may have it."""

KINDS = ("inference", "embedding")

REQUIRED_FIELDS = ("name", "usd", "window")

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
NAME_FORM = "1 to 64 of the characters A-Z a-z 0-9 _ . -"
"""The name of a budget. It is a part of URLs, and of keys in the ledger."""

_GROUP = re.compile(r"[!-~]{1,100}")


def read_budgets(raw: str) -> tuple[Budget, ...]:
    """Read the budgets from JSON, or from the path of a JSON or TOML file. Empty: none.

    Raises ManyProblemsError with the place and the field of each problem.
    """
    if not raw:
        return ()
    entries = _entries(read_structure(raw))
    if len(entries) > MAX_BUDGETS:
        raise ValueError(f"has {len(entries):,} budgets: at most {MAX_BUDGETS} are possible")
    problems = [
        f"entry {number}{_shown_name(entry)}: {problem}"
        for number, entry in enumerate(entries, 1)
        for problem in _problems_of(entry)
    ]
    problems += _repeated_names(entries)
    if len(problems) > MAX_PROBLEMS:
        problems[MAX_PROBLEMS:] = [f"has {len(problems) - MAX_PROBLEMS:,} more problems"]
    if problems:
        raise ManyProblemsError(problems)
    return tuple(_budget(entry) for entry in entries if isinstance(entry, dict))


def _entries(content: object) -> list[object]:
    found = content
    if isinstance(content, dict):
        for key in content:
            if key != LIST:
                raise ValueError(f"has the unknown key {reprlib.repr(key)}: the list is in {LIST!r}")
        found = content.get(LIST)
    if not isinstance(found, list):
        raise ValueError(f"must be a list of budgets, or an object with such a list in {LIST!r}")  # noqa: TRY004 - parsers raise ValueError only
    return found


def _shown_name(entry: object) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return f" ({reprlib.repr(name)})" if isinstance(name, str) else ""


def _repeated_names(entries: list[object]) -> Iterator[str]:
    first: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and first.setdefault(name, number) != number:
            yield f"entry {number} ({reprlib.repr(name)}): name is that of entry {first[name]}, too"


def _problems_of(entry: object) -> Iterator[str]:
    """Yield the problems of one entry, each beginning with its field."""
    if not isinstance(entry, dict):
        yield "must be an object with the fields of a budget"
        return
    for field in REQUIRED_FIELDS:
        if field not in entry:
            yield f"{field} is missing"
    for field, value in entry.items():
        check = _CHECKS.get(field)
        if check is None:
            yield f"{reprlib.repr(field)} is not a field; known are {', '.join(FIELDS)}"
        elif problem := check(value):
            yield f"{field} {problem}"


def _problem_of_name(value: object) -> str | None:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        return f"must be {NAME_FORM}"
    return "must not be 'run': each run's own budget has this name" if value == RUN else None


def _problem_of_usd(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return "must be an amount in USD, as a number or as text"
    try:
        amount_nanousd = nanousd_from_usd(str(value))
    except ValueError:
        amount_nanousd = 0
    if not amount_nanousd:
        return f"must be an amount in USD, above 0 and at most {MAX_USD:,}"
    if Decimal(amount_nanousd).scaleb(-NANOUSD_DECIMALS) != Decimal(str(value).strip()):
        return f"must have at most {NANOUSD_DECIMALS} decimals"
    return None


def _one_of(*allowed: str) -> Callable[[object], str | None]:
    def problem_of(value: object) -> str | None:
        return None if value in allowed else f"must be one of {', '.join(allowed)}"

    return problem_of


def _problem_of_zone(value: object) -> str | None:
    try:
        zone_of(value if isinstance(value, str) else "")
    except ValueError:
        return "must be the name of a time zone that this machine knows, such as Europe/Berlin"
    return None


def _problem_of_group(value: object) -> str | None:
    if not isinstance(value, str) or not _GROUP.fullmatch(value):
        return "must be 1 to 100 visible ASCII characters, without spaces"
    return f"must have at most one {ANY_TEXT}" if value.count(ANY_TEXT) > 1 else None


def _problem_of_model(value: object) -> str | None:
    if isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS and value.isprintable():
        return None
    return f"must be 1 to {MAX_NAME_CHARACTERS} printable characters"


_CHECKS: dict[str, Callable[[object], str | None]] = {
    "name": _problem_of_name,
    "usd": _problem_of_usd,
    "window": _one_of(*WINDOWS),
    "zone": _problem_of_zone,
    "group": _problem_of_group,
    "model": _problem_of_model,
    "kind": _one_of(*KINDS),
}
"""For each field a function that returns the problem of a value, None if it is valid."""

FIELDS = tuple(_CHECKS)


def _budget(entry: dict[str, str]) -> Budget:
    return Budget(
        entry["name"],
        nanousd_from_usd(str(entry["usd"])),
        next(window for window in WINDOWS if window == entry["window"]),
        entry.get("zone", UTC_ZONE),
        entry.get("group"),
        entry.get("model"),
        entry.get("kind"),
    )
