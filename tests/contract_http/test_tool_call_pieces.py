"""Tool calls in the pieces of a stream, as servers send them, through both routes that put them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from tests.contract_http.platform_api import infer
from tests.contract_http.service import CHAT_URL, DONE, HEADERS, RUN, app_of, sse, tokens
from tests.support.table import check_rows

if TYPE_CHECKING:
    import responses

Piece = dict[str, Any]
TOOL = {"name": "f", "parameters": []}


def piece(arguments: str = "", **fields: object) -> Piece:
    """A piece of a tool call. `name` is the name of the function."""
    name = {"name": fields.pop("name")} if "name" in fields else {}
    return {**fields, "function": {**name, "arguments": arguments}}


def calls(*numbers: int, name: str = "f") -> list[tuple[str, str]]:
    """The calls of a row: each with a number as its arguments."""
    return [(name, f'{{"a":{number}}}') for number in numbers]


FIRST, SECOND = ('{"a"', ":1}"), ('{"a"', ":2}")

ROWS: dict[str, tuple[list[Piece], list[tuple[str, str]]]] = {
    "OpenAI's API: an index in each piece": (
        [
            piece(index=0, id="x", name="f"),
            piece(FIRST[0], index=0),
            piece(FIRST[1], index=0),
            piece(index=1, id="y", name="f"),
            piece("".join(SECOND), index=1),
        ],
        calls(1, 2),
    ),
    "indexes whose pieces arrive in turns": (
        [
            piece(FIRST[0], index=0, id="x", name="f"),
            piece(SECOND[0], index=1, id="y", name="f"),
            piece(FIRST[1], index=0),
            piece(SECOND[1], index=1),
        ],
        calls(1, 2),
    ),
    "an index, and the name in each piece": (
        [piece(part, index=0, id="x", name="f") for part in FIRST],
        calls(1),
    ),
    "an index, and the name in pieces": (
        [piece(index=0, id="x", name="read_"), piece(index=0, name="file"), piece('{"a":1}', index=0)],
        calls(1, name="read_file"),
    ),
    "an index, and another id in each piece": (
        [piece(FIRST[0], index=0, id="x", name="f"), piece(FIRST[1], index=0, id="y")],
        calls(1),
    ),
    "indexes, and the same id twice": (
        [piece("".join(FIRST), index=0, id="x", name="f"), piece("".join(SECOND), index=1, id="x", name="f")],
        calls(1, 2),
    ),
    "indexes from 1, and with a gap": (
        [piece("".join(FIRST), index=1, id="x", name="f"), piece("".join(SECOND), index=5, id="y", name="f")],
        calls(1, 2),
    ),
    "an index in the first piece only": (
        [piece(FIRST[0], index=0, id="x", name="f"), piece(FIRST[1], index=None)],
        calls(1),
    ),
    "no index, an id in each piece": (
        [
            piece(FIRST[0], id="x", name="f"),
            piece(FIRST[1], id="x"),
            piece(SECOND[0], id="y", name="f"),
            piece(SECOND[1], id="y"),
        ],
        calls(1, 2),
    ),
    "null as index, an id and the name in each piece, in turns": (
        [
            piece(part, index=None, id=call_id, name="f")
            for parts in zip(FIRST, SECOND, strict=True)
            for call_id, part in zip("xy", parts, strict=True)
        ],
        calls(1, 2),
    ),
    "no index, an id in the first piece only": (
        [
            piece(FIRST[0], id="x", name="f"),
            piece(FIRST[1]),
            piece(SECOND[0], id="y", name="f"),
            piece(SECOND[1], id=None),
        ],
        calls(1, 2),
    ),
    "no index, an id and then the name": (
        [
            piece(id="x"),
            piece(FIRST[0], name="f"),
            piece(FIRST[1]),
            piece(id="y"),
            piece("".join(SECOND), name="f"),
        ],
        calls(1, 2),
    ),
    "no index, ids without names behind the first": (
        [piece(FIRST[0], id="x", name="f"), piece(FIRST[1], id="x", name="")],
        calls(1),
    ),
    "no index and no id: a name starts a call": (
        [
            piece(FIRST[0], name="f"),
            piece(FIRST[1], name=""),
            piece(SECOND[0], name="f", index=None, id=None),
            piece(SECOND[1], name=None),
        ],
        calls(1, 2),
    ),
    "two whole calls of a name": ([piece("".join(part), name="f") for part in (FIRST, SECOND)], calls(1, 2)),
    "an index that is no number of a call": (
        [piece(FIRST[0], index=bad, id="x", name="f") for bad in ("0",)]
        + [piece(FIRST[1], index=bad) for bad in (-1,)]
        + [piece(" " * (bad is True), index=bad) for bad in (True, 1.0)],
        [("f", '{"a":1} ')],
    ),
}


def stream_of(pieces: list[Piece]) -> bytes:
    """An answer with each piece in an event of its own."""
    deltas = [{"delta": {"tool_calls": [each]}, "index": 0} for each in pieces]
    events = [{"id": "c", "choices": [each]} for each in deltas]
    end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    return sse(*events, end, tokens(10, 5), DONE)


def test_each_piece_is_added_to_its_call_on_both_routes(upstream: responses.RequestsMock) -> None:
    def check(row: tuple[str, tuple[list[Piece], list[tuple[str, str]]]]) -> None:
        pieces, expected = row[1]
        upstream.reset()
        upstream.post(CHAT_URL, body=stream_of(pieces))
        answer = infer(app_of(), tool_mode="auto", tools=[TOOL]).get_json()
        found = [(call["name"], {each["name"]: each["value"] for each in call["arguments"]})
                 for call in answer["tool_calls"]]  # fmt: skip
        assert found == [(name, orjson.loads(arguments)) for name, arguments in expected]

        body = {"run_id": RUN, "input": "Hello", "stream": True}
        reply = app_of().test_client().post("/v1/responses", json=body, headers=HEADERS)
        events = [orjson.loads(line[6:]) for line in reply.data.split(b"\n") if line.startswith(b"data: {")]
        output = events[-1]["response"]["output"]
        assert [(item["name"], item["arguments"]) for item in output] == expected
        assert len({item["call_id"] for item in output}) == len(expected)

    check_rows(ROWS.items(), check)
