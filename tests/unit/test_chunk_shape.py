"""Chunks of one shape: reading many at a time has the same effect as to parse each of them."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import orjson
import pytest
from hypothesis import event as record_event
from hypothesis import given
from hypothesis import strategies as st

from ridges_proxy.errors import ClientStalledError, UpstreamBrokenError, UpstreamError
from ridges_proxy.upstream.attempt import Attempt
from ridges_proxy.upstream.chunk_shape import (
    MAX_CHUNK_BYTES,
    TRIED_TEXT,
    AlikeEvents,
    ChunkShape,
    shape_of,
)
from ridges_proxy.upstream.message_reader import MessageStreamReader
from ridges_proxy.upstream.sse import EventReader
from ridges_proxy.upstream.stream_events import SINGLE_EVENTS, read_events
from ridges_proxy.upstream.stream_reader import MAX_UNUSED_SHAPES, RelayStreamReader
from tests.support.table import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ridges_proxy.upstream.stream_reader import StreamReader

    Read = Callable[[Iterable[bytes], StreamReader, Attempt], None]

USAGE = {"prompt_tokens": 7, "total_tokens": 9, "completion_tokens": 2}
VLLM = (
    b'{"id":"a","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":"TEXT"},"logprobs":null,"finish_reason":null}]USAGE}'
)
FORMS = [
    VLLM,
    VLLM.replace(b'{"content"', b'{"role":"assistant","content"'),
    VLLM.replace(b'"TEXT"', b'"TEXT","reasoning_content":null,"tool_calls":null'),
    VLLM.replace(b'"TEXT"', b'"TEXT","reasoning_content":"TEXT"'),
    VLLM.replace(b'"TEXT"', b'"TEXT","tool_calls":[{"index":0,"function":{"name":"f","arguments":"x"}}]'),
    VLLM.replace(b'"TEXT"', b'"TEXT","content":"TEXT"'),
    VLLM.replace(b'"TEXT"', b'"TEXT","content":"another text"'),
    VLLM.replace(b'{"content"', b'{"a\\"content":"TEXT","content"'),
    VLLM.replace(b'"id":"a"', b'"id":"TEXT"'),
    VLLM.replace(b'"id":"a",', b""),
    VLLM.replace(b'"index":0', b'"index":1'),
    VLLM.replace(b":", b": "),
    VLLM.replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
    VLLM.replace(b'"finish_reason":null', b'"finish_reason":"abort"'),
    VLLM.replace(b'"choices":[', b'"choices":[{"index":1,"delta":{"content":"TEXT"}},'),
    VLLM.replace(b"USAGE", b',"error":{"message":"TEXT"}'),
    VLLM.replace(b"USAGE", b',"total_tokens":3,"completion_tokens":4'),
]
USAGES = [
    b"",
    b',"usage":null',
    b',"usage":{"prompt_tokens":7,"total_tokens":TOTAL,"completion_tokens":COUNT}',
    b',"usage":{"completion_tokens":COUNT,"prompt_tokens":7,"total_tokens":TOTAL,"details":{"x":1}}',
    b',"usage":{"prompt_tokens":7,"total_tokens":9,"completion_tokens":COUNT}',
    b',"usage":{"prompt_tokens":0,"total_tokens":COUNT,"completion_tokens":COUNT}',
    b',"usage":{"total_tokens":TOTAL,"completion_tokens":COUNT}',
    b',"usage":{"prompt_tokens":0,"total_tokens":0,"completion_tokens":COUNT}',
    b',"usage":{"prompt_tokens":7,"total_tokens":TOTAL,"completion_tokens":COUNT,"completion_tokens":5}',
    b',"usage":{"prompt_tokens":7,"total_tokens":TOTAL,"completion_tokens":0COUNT}',
    b',"usage":{"prompt_tokens":7,"total_tokens":TOTAL,"completion_tokens":COUNT.0}',
    b',"usage":{"prompt_tokens":7,"total_tokens":TOTAL,"completion_tokens":COUNT,"input_tokens":3}',
    b',"usage":{"prompt_tokens":7,"completion_tokens":COUNT,"completion_tokens":COUNT}',
    b',"usage":[{"total_tokens":TOTAL,"completion_tokens":COUNT}]',
]
CACHED = USAGES[3].replace(b'"details":{"x":1}', b'"prompt_tokens_details":{"cached_tokens":6}')
INSIDES = [
    *(
        b"word ",
        b"a",
        b" \xc3\xa9\xf0\x9f\x98\x80",
        b"\\n",
        b'\\",',
        b"\\u00e9",
        b"\\/",
        b'\\"',
        b'","',
        b"",
        b"\0",
    ),
    *(b"\\", b"\\\\", b"\\ud83d\\ude00", b"\\ud83d", b"\\u12", b"\xff", b"\xc3", b"\xa9", b"\t", b"\x7f"),
    *(TRIED_TEXT.encode(), b'\\"content\\":\\"', b'x"},"finish_reason":null}]}\n\ndata: {"content":"'),
]
OTHER_EVENTS = [
    b": ping\n\n",
    b"data: [DONE]\n\n",
    b"\n\n",
    b"data: {}\n\n",
    b'data: {"choices":[]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"b","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"error":{"message":"no"}}\n\n',
    b'{"status":500}\n',
]


@st.composite
def chunks(draw: st.DrawFn) -> list[bytes]:
    """Chunks of one form. Mostly of a form with a shape, with counts that grow, and one text of any kind."""
    is_ordinary = draw(st.integers(0, 3)) < 3
    form = draw(st.sampled_from(FORMS[:3] if is_ordinary else FORMS))
    usage = draw(st.sampled_from(USAGES[:5] if is_ordinary else USAGES))
    ending = b"\n\n" if is_ordinary else draw(st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n\ndata: \n\n"]))
    texts = draw(st.lists(st.sampled_from(INSIDES[:8]), min_size=2, max_size=9))
    texts.insert(draw(st.integers(0, len(texts))), draw(st.sampled_from(INSIDES)))
    steps = [1] if is_ordinary else [1, 0, 2, -1]
    count = draw(st.integers(2, 12))
    found = []
    for text in texts:
        count += draw(st.sampled_from(steps))
        total = count + 7 + (0 if is_ordinary else draw(st.sampled_from([0, 1])))
        numbers = usage.replace(b"COUNT", b"%d" % count).replace(b"TOTAL", b"%d" % total)
        found.append(b"data: " + form.replace(b"USAGE", numbers).replace(b"TEXT", text) + ending)
    return found


OTHERS = st.sampled_from(OTHER_EVENTS).map(lambda other: [other])
EVENTS = st.tuples(chunks(), st.one_of(chunks(), OTHERS), st.one_of(chunks(), OTHERS), OTHERS)


def parse_each(pieces: Iterable[bytes], reader: StreamReader, attempt: Attempt) -> None:
    """Read a stream without shapes: the meaning of `read_events`."""
    parser, events, rest = EventReader(), [], 0
    try:
        for piece in pieces:
            attempt.record_piece()
            events += parser.feed(piece)
            if events:
                attempt.record_first_event()
            deltas = attempt.deltas
            while events and not reader.done:
                reader.add(events.pop(0))
            if attempt.deltas != deltas:
                attempt.progress.record_text()
            if reader.done:
                return
        events += parser.close()
        while events:
            reader.add(events.pop(0))
    finally:
        rest = parser.unread_bytes
        reader.count_unread(events, rest)


def outcome(
    read: Read, pieces: list[bytes], max_tokens: int | None, *, reader: str, **shown: bool
) -> dict[str, Any]:
    """All that a stream leaves behind: the attempt, the error and the answer."""
    attempt, put = Attempt(max_tokens=max_tokens), list[bytes]()
    message = MessageStreamReader(attempt)
    relay = RelayStreamReader(attempt, put.append, **shown)  # type: ignore[arg-type] # mypy takes no kwargs here
    used = relay if reader == "relay" else message
    clock = itertools.count(1)
    with patch("ridges_proxy.upstream.attempt.time.monotonic", lambda: next(clock) / 1_000):
        try:
            read(iter(pieces), used, attempt)
            error = ""
        except UpstreamError as raised:
            error = f"{type(raised).__name__} {raised.detail}"
    found: dict[str, Any] = {"attempt": asdict(attempt), "error": error, "put": b"".join(put)}
    if reader == "relay":
        return found | {"usage": relay.unshown_usage()}
    try:
        return found | {"message": message.message()}
    except UpstreamBrokenError:
        return found


@given(
    events=EVENTS,
    cuts=st.lists(st.integers(1, 2_000), max_size=3),
    max_tokens=st.sampled_from([None, None, 100, 12, 3]),
    reader=st.sampled_from(["relay", "message"]),
    shows_usage=st.booleans(),
    shows_chunk_usage=st.booleans(),
    keeps_usage=st.booleans(),
)
def test_chunks_of_one_shape_have_the_effect_of_parsed_ones(
    events: tuple[list[bytes], ...], cuts: list[int], max_tokens: int | None, reader: str, **shown: bool
) -> None:
    data = b"".join(itertools.chain(*events))
    ends = sorted({min(end, len(data)) for end in itertools.accumulate(cuts)} | {len(data)})
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]
    alike: list[bool] = []

    def noted(read: Callable[..., AlikeEvents | None]) -> Callable[..., AlikeEvents | None]:
        def count_alike(self: StreamReader, data: bytes, start: int) -> AlikeEvents | None:
            found = read(self, data, start)
            alike.append(found is not None)
            return found

        return count_alike

    reader_class = RelayStreamReader if reader == "relay" else MessageStreamReader
    with patch.object(reader_class, "count_alike", noted(reader_class.count_alike)):
        found = outcome(read_events, pieces, max_tokens, reader=reader, **shown)
    record_event(f"some were alike: {any(alike)}")
    assert found == outcome(parse_each, pieces, max_tokens, reader=reader, **shown)


def ordinary(usage: bytes, texts: Iterable[bytes]) -> list[bytes]:
    """Events of one form, with these texts and a usage of their number."""
    return [
        b"data: %b\n\n"
        % VLLM.replace(b"USAGE", usage)
        .replace(b"COUNT", b"%d" % number)
        .replace(b"TOTAL", b"%d" % (number + 7))
        .replace(b"TEXT", text)
        for number, text in enumerate(texts, 1)
    ]


def shape_in(event: bytes) -> ChunkShape:
    data = event.removeprefix(b"data: ").strip()
    shape = shape_of(data, orjson.loads(data))
    assert shape is not None
    return shape


def test_only_the_first_two_chunks_of_a_form_are_parsed() -> None:
    """The second one shows that both have one id. Whether the usage is in each chunk makes no difference."""

    def check(usage: bytes) -> None:
        events = ordinary(usage, [b"word\\n ", b"\xf0\x9f\x98\x80"] * 50)
        attempt, put = Attempt(), list[bytes]()
        reader = RelayStreamReader(attempt, put.append, shows_usage=False)
        with patch.object(reader, "add", wraps=reader.add) as add:
            read_events([b"".join(events)], reader, attempt)
        assert add.call_count == 2
        assert (attempt.deltas, attempt.text_bytes) == (100, 100 * 5)
        if b"COUNT" in usage:
            assert attempt.usage is not None
            assert (attempt.usage.completion_tokens, attempt.deltas_at_usage) == (100, 100)

    check_rows(USAGES[:4], check)


def test_what_is_shown_of_a_usage_is_the_same_for_chunks_of_one_shape() -> None:
    """Each reader, each choice of what is shown, each usage, and an answer that is cut off."""
    shown = [
        dict(zip(("shows_usage", "shows_chunk_usage", "keeps_usage"), each, strict=True))
        for each in itertools.product((False, True), repeat=3)
    ]

    def check(row: tuple[bytes, tuple[str, dict[str, bool]], int | None]) -> None:
        usage, (reader, flags), max_tokens = row
        events = ordinary(usage, [b"word", b"\xc3\xa9", b"\\n"] * 4)
        pieces = [b"".join(events[:7]), b"".join([*events[7:], OTHER_EVENTS[6]])]
        found = outcome(read_events, pieces, max_tokens, reader=reader, **flags)
        assert found == outcome(parse_each, pieces, max_tokens, reader=reader, **flags)

    readers = [*(("relay", flags) for flags in shown), ("message", shown[0])]
    check_rows(itertools.product([*USAGES, CACHED], readers, [None, 12, 5]), check)


def test_chunks_with_ids_of_their_own_are_not_searched_for_a_shape_forever() -> None:
    events = [
        event.replace(b'"a"', b'"%d"' % (number // 2))
        for number, event in enumerate(ordinary(b"", [b"word"] * 40))
    ]
    attempt = Attempt()
    reader = MessageStreamReader(attempt)
    with patch("ridges_proxy.upstream.stream_reader.shape_of", wraps=shape_of) as search:
        read_events([b"".join(events)], reader, attempt)
    assert search.call_count == MAX_UNUSED_SHAPES
    assert attempt.deltas == 40


def test_empty_events_are_not_read_one_by_one() -> None:
    attempt = Attempt()
    with patch.object(EventReader, "feed", autospec=True, side_effect=EventReader.feed) as feed:
        read_events([b"\n\n" * 30_000], MessageStreamReader(attempt), attempt)
    assert feed.call_count <= SINGLE_EVENTS + 3  # the first line, all others at once, and the end


def test_a_shape_is_written_as_its_texts_are_encoded() -> None:
    texts = ["word", '","', '",', '\\","', "\\", "\n\u00e9\U0001f600", '",\n  "', '"']
    (first, *_) = ordinary(b"", [b"word"])
    shape = shape_in(first)
    written = shape.write(texts)
    assert written == b"".join(first.replace(b'"word"', orjson.dumps(text)) for text in texts)
    assert shape.read(written, 0) == AlikeEvents(texts, {}, len(written))


WITH_A_SHAPE = {*FORMS[:3], *FORMS[8:11], *USAGES[:8]}
"""The forms, and the usages in the first form, of which all that changes is one text and two counts."""


def test_a_form_has_a_shape_if_only_its_text_and_its_counts_change() -> None:
    """Not if it ends the answer, or if a name is there twice, or if a count is of another kind of usage."""
    rows: list[tuple[bytes, bytes, bytes]] = [(form, b"", b"word") for form in FORMS]
    rows += [(VLLM, usage, b"word") for usage in USAGES if b"0COUNT" not in usage]

    def check(row: tuple[bytes, bytes, bytes]) -> None:
        form, usage, text = row
        numbers = usage.replace(b"COUNT", b"3").replace(b"TOTAL", b"10")
        data = form.replace(b"USAGE", numbers).replace(b"TEXT", text)
        has_shape = text == b"word" and {form, usage} <= WITH_A_SHAPE
        if form is not FORMS[15]:  # an error is never read as a text
            assert (shape_of(data, orjson.loads(data)) is not None) == has_shape

    check_rows([*rows, (VLLM, b"", b""), (VLLM, b"", TRIED_TEXT.encode())], check)


def test_no_shape_is_searched_in_a_long_chunk() -> None:
    def check(row: tuple[int, bool]) -> None:
        size_bytes, has_shape = row
        data = VLLM.replace(b"USAGE", b"").replace(b"TEXT", b"")
        data = data.replace(b'""', b'"%b"' % (b"a" * (size_bytes - len(data))))
        assert len(data) == size_bytes
        assert (shape_of(data, orjson.loads(data)) is not None) == has_shape

    check_rows([(MAX_CHUNK_BYTES, True), (MAX_CHUNK_BYTES + 1, False)], check)


def test_data_behind_a_shape_is_left() -> None:
    first, second = ordinary(USAGES[2], [b"one", b"two"])
    shape = shape_in(first)
    rest = OTHER_EVENTS[-2]
    assert shape.read(first + second + rest, len(first)) == AlikeEvents(
        ["two"], {"total_tokens": 9, "completion_tokens": 2}, len(first + second)
    )
    assert shape.read(first + second[:-1], 0) == AlikeEvents(
        ["one"], {"total_tokens": 8, "completion_tokens": 1}, len(first)
    )
    assert shape.read(rest + first, 0) is None


def test_invalid_text_is_left_to_the_parser() -> None:
    def check(text: bytes) -> None:
        first, second = ordinary(b"", [b"one", text])
        assert shape_in(first).read(second, 0) is None

    check_rows([b"", b"\t", b"\\", b"\\u12", b"\xff", b"\\ud83d", b"\0", b'"', b"\\x"], check)


def test_a_count_that_makes_the_usage_invalid_is_not_recorded() -> None:
    """A prompt of 0 tokens is valid only with a total."""
    usage = b',"usage":{"completion_tokens":1,"total_tokens":TOTAL}'
    events = [
        event.replace(b'"total_tokens":10', b'"total_tokens":0') for event in ordinary(usage, [b"a"] * 3)
    ]
    shown = {"reader": "relay", "shows_usage": True, "shows_chunk_usage": True}
    found = outcome(read_events, events, None, **shown)  # type: ignore[arg-type] # mypy takes no kwargs here
    assert found["attempt"]["usage"]["completion_tokens"] == 9
    assert found == outcome(parse_each, events, None, **shown)  # type: ignore[arg-type] # as above


def test_events_are_counted_once_if_their_client_does_not_take_them() -> None:
    events = ordinary(b"", [b"word"] * 50)
    attempt, put = Attempt(), list[bytes]()

    def take_two(event: bytes) -> None:
        if len(put) == 2:
            raise ClientStalledError
        put.append(event)

    with pytest.raises(ClientStalledError):
        read_events([b"".join(events)], RelayStreamReader(attempt, take_two, shows_usage=False), attempt)
    assert attempt.received_tokens == 50 * len(b"word")
