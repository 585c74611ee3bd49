"""Synthetic source code, English and JSON from a seeded generator. The same seed writes the same texts."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def _words(text: str) -> list[str]:
    return text.split()


NOUNS = _words(
    "account address archive batch buffer cache channel client column config cursor digest entry event field "
    "filter folder frame group handler header index item job journal key ledger limit line list lock log "
    "message method module network node number object offset option order output owner packet page parser "
    "path payload price process profile query queue range record region report request response result "
    "retry route row schema section server session setting shard signal socket source state step store "
    "stream table target task template thread ticket timer token total trace unit user value version window"
)
VERBS = _words(
    "add apply build check clear close collect compare convert copy count create decode delete drop encode "
    "expand fetch find flush format join load merge move open parse read remove render replace reset resolve "
    "return round save scan select send set skip sort split start stop store sum test update validate write"
)
ADJECTIVES = _words(
    "active allowed broken cached closed common current default empty expired failed first full hidden idle "
    "invalid known large last local missing narrow new next old open partial pending plain previous private "
    "public raw ready recent remote safe shared short single stale strict total unused valid visible wide"
)
LINKS = _words("and but because while so although after before when if until unless whenever since")

BYTES_PER_TOKEN = 4
"""About right for these texts and both tokenizers."""


class Writer:
    """Writes texts of a chosen size in bytes; all are ASCII."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(str(seed))

    def size(self, low: int, high: int) -> int:
        """A random size between the two, both included."""
        return self._random.randint(low, high)

    def mixed(self, size_bytes: int) -> str:
        """A text of one kind: mostly source code, sometimes English or JSON."""
        return self._random.choice((self.code, self.code, self.english, self.json))(size_bytes)

    def code(self, size_bytes: int) -> str:
        return self._repeat(self._function, size_bytes)

    def english(self, size_bytes: int) -> str:
        return self._repeat(self._paragraph, size_bytes)

    def json(self, size_bytes: int) -> str:
        return self._repeat(self._document, size_bytes)

    def _repeat(self, write: Callable[[], str], size_bytes: int) -> str:
        pieces, size = [], 0
        while size < size_bytes:
            pieces.append(write())
            size += len(pieces[-1])
        return "".join(pieces)[:size_bytes]

    def _noun(self) -> str:
        return self._random.choice(NOUNS)

    def _verb(self) -> str:
        return self._random.choice(VERBS)

    def _name(self) -> str:
        words = [self._random.choice(self._random.choice((ADJECTIVES, NOUNS))), self._noun()]
        return "_".join(words[self._random.randrange(2) :])

    def _function(self) -> str:
        first, second = self._name(), self._name()
        lines = [
            f"def {self._verb()}_{self._name()}({first}, {second}=None, limit={self.size(0, 500)}):",
            f'    """{self._sentence()}"""',
            *(self._statement(first, second) for _ in range(self._random.randint(3, 9))),
            f"    return {self._random.choice((first, second))}",
        ]
        return "\n".join(lines) + "\n\n\n"

    def _statement(self, first: str, second: str) -> str:
        name, attribute, verb = self._name(), self._noun(), self._verb()
        condition = f"    if {first}.{attribute} is None or len({second}) > limit:"
        error = f'        raise ValueError(f"{self._verb()} {attribute}: {{{first}!r}}")'
        loop = f"    for {name} in sorted({first}.{attribute}s):"
        assignment = f"        {second}[{name}.{self._noun()}] = {verb}({name})"
        return self._random.choice(
            (
                f"    {name} = {first}.{verb}_{attribute}({second}, {self._random.randrange(10_000)})",
                f"{condition}\n{error}",
                f"{loop}\n{assignment}",
                f"    # {self._sentence()}",
                f'    assert {first}["{attribute}"] != {second}.get("{name}"), "{self._sentence()}"',
            )
        )

    def _sentence(self) -> str:
        adjective, link = self._random.choice(ADJECTIVES), self._random.choice(LINKS)
        return (
            f"{self._verb().capitalize()} the {adjective} {self._noun()} of `{self._name()}` in line "
            f"{self.size(1, 999)}, {link} its {self._noun()} is {self._random.choice(ADJECTIVES)}."
        )

    def _paragraph(self) -> str:
        return " ".join(self._sentence() for _ in range(self._random.randint(2, 6))) + "\n\n"

    def _document(self) -> str:
        document = {self._name(): self._json_value() for _ in range(self._random.randint(4, 8))}
        return json.dumps(document, indent=2) + "\n"

    def _json_value(self) -> object:
        return self._random.choice(
            (
                self._random.randrange(100_000),
                self._sentence(),
                [self._name() for _ in range(3)],
                {self._name(): self._random.random() < 0.5, self._noun(): self._name()},
            )
        )
