"""`ridges-proxy fields`: what happens to each field of a request. `make docs` writes its output to a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ridges_proxy.cli.command_help import Command, examples
from ridges_proxy.web.schemas.field_table import PLACES, Treatment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ridges_proxy.web.schemas.field_table import Place

BEGIN = "<!-- The output of `ridges-proxy fields`. To renew it: make docs -->\n"
END = "<!-- The end of the output of `ridges-proxy fields`. -->\n"

HEAD = """
A field that is not listed and is null or empty (`""`, `[]`, `{}`) is dropped, in every place. So are the
fields in the rows "dropped". Nothing that is dropped is counted or sent to the upstream. An empty list or
object in an optional field of a chat counts as absent. So do `tool_choice` and `parallel_tool_calls` without
`tools`.
"""

UNLISTED = {
    Treatment.REFUSED: "refused by name",
    Treatment.DROPPED: "dropped",
    Treatment.COUNTED: "passed on, and counted",
}


@click.command(
    "fields",
    cls=Command,
    epilog=examples("ridges-proxy fields", "ridges-proxy fields --into docs/reference/api.md"),
)
@click.option(
    "--into",
    "page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replace the tables in a page instead of printing them.",
)
def fields(page: Path | None) -> None:
    """Print what happens to each field of a request.

    The output has tables in Markdown.
    """
    if page is None:
        click.echo(markdown(), nl=False)
    else:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


def with_tables(text: str) -> str:
    """Return a page with the tables between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        message = f"The page needs the lines {BEGIN.strip()} and {END.strip()}"
        raise click.ClickException(message)
    return f"{before}{BEGIN}{markdown()}\n{END}{after}"


def markdown() -> str:
    """Return the tables of all places."""
    return HEAD + "".join(map(_table, PLACES))


def _table(place: Place) -> str:
    rows = "".join(f"| {names} | {text} |\n" for names, text in _rows(place))
    return f"\n**{place.title}**\n\n| fields | what happens |\n| --- | --- |\n{rows}"


def _rows(place: Place) -> Iterator[tuple[str, str]]:
    groups = [
        (place.counted, Treatment.COUNTED),
        (place.passed, Treatment.PASSED),
        (place.read, Treatment.READ),
        (place.dropped, Treatment.DROPPED),
    ]
    yield from ((_code(names), treatment.value) for names, treatment in groups if names)
    for reason in dict.fromkeys(place.refused.values()):
        names = [name for name, why in place.refused.items() if why == reason]
        yield _code(names), f"{Treatment.REFUSED.value}: {reason}"
    yield "others with a value", UNLISTED[place.others]


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
