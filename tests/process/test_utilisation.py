"""Part of the utilisation benchmark: a real proxy, and gates with faults, which the benchmark must notice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from bench.overspend.peers.peer_gateway import PeerGateway
from bench.overspend.proxy_gateway import Deployment, proxy_gateway
from bench.overspend.requests import GatewayRequest
from bench.pages import write_part
from bench.utilisation import __main__ as program
from bench.utilisation.agents import AGENTS
from bench.utilisation.gates import ExactGate, Reply
from bench.utilisation.model import order
from bench.utilisation.peer_gate import PeerGate
from bench.utilisation.proxy_gate import ProxyGate, error_reply
from bench.utilisation.replies import ErrorEventError, UnexpectedReplyError, streamed_reply
from bench.utilisation.report import PART, as_markdown, faults, peers_as_markdown
from bench.utilisation.texts import Writer
from bench.utilisation.tokenizers import TOKENIZERS, Tokenizer, deepseek_file
from bench.utilisation.trial import Case, Result, exact_nanousd, run_case
from bench.utilisation.upstream import upstream
from tests.support.one_answer import answering, http
from tests.support.table import check_rows, each_row

if TYPE_CHECKING:
    from pathlib import Path

    from bench.utilisation.model import Call, Model

# Only `make utilisation` runs the rest: all kinds, prices, tokenizers and ledgers, and four workers.

TOKENIZER = "o200k"
NO_USAGE = -1

WHOLE_ANSWER = json.dumps(
    {
        "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 2},
    }
).encode()


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return program.make_models([TOKENIZER])


def case_of(models: dict[str, Model], kind: str, price: str = "cheap", seed: int = 0) -> Case:
    model = models[f"{price}-{TOKENIZER}"]
    return next(
        case
        for case in program.make_cases(models, [kind], seed + 1)
        if (case.model, case.seed) == (model, seed)
    )


def result_of(case: Case, gate: ExactGate) -> Result:
    return run_case(case, gate, exact_nanousd(case))


# --- the proxy


def test_through_the_proxy_agents_use_most_of_their_budget_and_no_more(models: dict[str, Model]) -> None:
    with (
        upstream(models) as server,
        proxy_gateway(server.url, Deployment("memory", 1, 1), program.settings(server)) as gateway,
    ):
        gate = ProxyGate(gateway, server.meter)

        def check(kind: str) -> None:
            case = case_of(models, kind)
            result = run_case(case, gate, exact_nanousd(case))
            assert (result.overspend_nanousd, result.held_nanousd) == (0, 0)
            assert result.utilisation > 0.6
            assert result.calls > 10

        check_rows(["growing", "parallel", "reasoning"], check)


# --- the measure


class CountsBytes(ExactGate):
    """Too tight: takes each byte of the prompt for a token."""

    def minimum_nanousd(self, model: Model, call: Call) -> int:
        size_bytes = sum(len(message["content"]) for message in call.messages)
        return model.cost_nanousd(size_bytes, 16)


class ShortensAnswers(ExactGate):
    """Too tight: pays for an eighth of each answer."""

    def send_one(self, model: Model, call: Call) -> Reply:
        answer = model.answer(call.messages, call.allowed_tokens)
        return super().send_one(model, type(call)(call.messages, answer.tokens // 8))


class RefusesEveryThirdBurst(ExactGate):
    """Too tight: refuses a call that fits while others are in flight."""

    def send(self, model: Model, calls: list[Call]) -> list[Reply]:
        replies = super().send(model, calls)
        if self.meter.calls > 100:
            replies[-1] = Reply(is_refused=True)
        return replies


class Leaks(ExactGate):
    """Lets calls of a batch through without a look at what the others cost."""

    def send(self, model: Model, calls: list[Call]) -> list[Reply]:
        is_refused = super().send_one(model, calls[0]).is_refused
        return [Reply(is_refused=is_refused), *(self.let_through(model, call) for call in calls[1:])]

    def let_through(self, model: Model, call: Call) -> Reply:
        answer = model.answer(call.messages, call.allowed_tokens)
        self.meter.add(model.cost_nanousd(model.prompt_tokens(call.messages), answer.tokens))
        return Reply(answer.content, answer.tokens)


class NeverRefuses(Leaks):
    def send(self, model: Model, calls: list[Call]) -> list[Reply]:
        return [self.let_through(model, call) for call in calls]


class KeepsAHold(ExactGate):
    def held_nanousd(self) -> int:
        return 7


def test_the_exact_gate_has_a_utilisation_of_1(models: dict[str, Model]) -> None:
    def check(kind: str) -> None:
        case = case_of(models, kind)
        result = result_of(case, ExactGate())
        assert (result.utilisation, result.overspend_nanousd, result.refused, result.cut) == (1.0, 0, 0, 0)
        assert result.billed_nanousd > 0.8 * case.budget_nanousd
        assert faults([("exact", case, result)]) == []

    check_rows(AGENTS, check)


def test_a_gate_that_counts_bytes_refuses_calls_that_would_have_fitted(models: dict[str, Model]) -> None:
    def check(kind: str) -> None:
        result = result_of(case_of(models, kind, "dear"), CountsBytes())
        assert result.utilisation < 0.999
        assert result.refused > 0
        assert result.overspend_nanousd == 0

    check_rows(AGENTS, check)
    assert result_of(case_of(models, "growing"), CountsBytes()).utilisation < 0.85


def test_a_call_that_is_refused_because_of_others_would_have_fitted(models: dict[str, Model]) -> None:
    result = result_of(case_of(models, "bursts"), RefusesEveryThirdBurst())
    assert result.refused == 1
    assert result.utilisation < 0.8


def test_answers_that_are_cut_too_early_are_counted(models: dict[str, Model]) -> None:
    result = result_of(case_of(models, "window"), ShortensAnswers())
    assert result.cut > 10


@each_row("gate", [Leaks, NeverRefuses])
def test_a_gate_that_leaks_overspends(models: dict[str, Model], gate: type[ExactGate]) -> None:
    case = case_of(models, "bursts")
    result = result_of(case, gate())
    assert result.overspend_nanousd > 0
    assert [text for text in faults([("leaking", case, result)]) if "overspend" in text]


def test_a_hold_that_is_left_is_reported(models: dict[str, Model]) -> None:
    case = case_of(models, "window")
    result = result_of(case, KeepsAHold())
    assert faults([("holding", case, result)]) == [
        "holding, window, cheap-o200k, seed 0: phantom hold 7 nano-USD"
    ]


# --- the gateways of others


@each_row(
    ("status", "body", "expected"),
    [
        ("402 Payment Required", b"{}", Reply(is_refused=True)),
        ("200 OK", WHOLE_ANSWER, Reply("Hello", 2)),
        ("500 Internal Server Error", b"locked", UnexpectedReplyError),
        ("200 OK", b'data: {"error": {"message": "lost"}}\n\n', UnexpectedReplyError),
    ],
)
def test_a_refusal_by_another_gateway_is_final(status: str, body: bytes, expected: object) -> None:
    class RefusesWith402(PeerGateway):
        refused_statuses = frozenset({402})

    content_type = "application/json" if body == WHOLE_ANSWER else "text/event-stream"
    with answering(http(body, status, Content_Type=content_type)) as server:
        request = GatewayRequest("/", b"{}", {}, port=urlsplit(server.url).port or 0)
        gate = PeerGate(RefusesWith402(), ExactGate().meter)
        if isinstance(expected, Reply):
            assert gate.final_reply(request) == expected
        else:
            with pytest.raises(UnexpectedReplyError):
                gate.final_reply(request)


def test_the_others_get_a_run_with_the_budget_of_each_case(models: dict[str, Model]) -> None:
    cases = list(program.make_cases(models, ["growing", "window"], 3))
    offers = {offer.budget_usd: offer for offer in program.make_offers(cases)}
    assert {budget: offer.runs for budget, offer in offers.items()} == {0.10: 6, 2.00: 6}
    assert offers[2.00].prices == {f"dear-{TOKENIZER}": (3.0, 15.0)}


def test_the_table_of_the_others_shows_the_largest_overspend(models: dict[str, Model]) -> None:
    case = case_of(models, "growing")
    results = [
        ("Leaky", case, Result(1_000, 1_000, 1_300, 9)),
        ("Leaky", case, Result(1_000, 1_000, 1_100, 9)),
        ("Tight", case, Result(1_000, 1_000, 700, 9)),
    ]
    text = peers_as_markdown(results, program.price_of)
    assert "|  | Leaky | overspend % | Tight | overspend % |" in text
    assert "| growing, 0.27 USD, budget 0.10 | 100.0 (100.0) | 30 | 70.0 (70.0) | 0 |" in text


# --- the agents and the upstream


def test_the_same_seed_writes_the_same_texts() -> None:
    assert Writer("a").mixed(5_000) == Writer("a").mixed(5_000) != Writer("b").mixed(5_000)


def test_the_texts_have_as_many_bytes_a_token_as_real_ones() -> None:
    writer = Writer("texts")
    texts = {"code": writer.code(40_000), "English": writer.english(40_000), "JSON": writer.json(40_000)}

    def check(name: str) -> None:
        tokenizer = Tokenizer(name)
        sizes = {kind: len(text) / tokenizer.count(text) for kind, text in texts.items()}
        assert {kind: size for kind, size in sizes.items() if not 3 <= size <= 4.5} == {}

    check_rows(TOKENIZERS, check)


def test_a_stream_reports_its_usage_at_its_end_and_in_each_chunk_if_asked(models: dict[str, Model]) -> None:
    prompt = order("Hello", 60, reasoning_tokens=40)

    def usages(server_url: str, **options: bool) -> list[int]:
        body = {"model": "cheap-o200k", "messages": [{"role": "user", "content": prompt}], "max_tokens": 90}
        request = Request(
            f"{server_url}/v1/chat/completions",
            json.dumps({**body, "stream": True, "stream_options": options}).encode(),
        )
        with urlopen(request) as response:
            lines = response.read().decode().split("\n\n")
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
        return [chunk["usage"]["completion_tokens"] if "usage" in chunk else NO_USAGE for chunk in chunks]

    with upstream(models) as server:
        total = server.models["cheap-o200k"].answer([{"role": "user", "content": prompt}], 90).tokens
        assert usages(server.url)[-1] == NO_USAGE
        assert usages(server.url, include_usage=True)[-2:] == [NO_USAGE, total]
        each = usages(server.url, continuous_usage_stats=True)
        assert each == sorted(each)
        assert (each[0], each[-1]) == (0, total)
        assert server.meter.calls == 3


@each_row(
    ("code", "retry_after", "expected"),
    [
        ("budget_exhausted", None, Reply(is_refused=True)),
        ("run_busy", None, 1.0),
        ("too_many_in_flight", "3", 3.0),
    ],
)
def test_the_client_follows_an_error(code: str, retry_after: str | None, expected: Reply | float) -> None:
    document = {"error": {"code": code}}
    assert error_reply(document, retry_after) == expected
    event = b": waiting\n\ndata: " + json.dumps(document).encode() + b"\n\n"
    with pytest.raises(ErrorEventError) as error_info:
        streamed_reply(event)
    assert error_info.value.document == document


def test_an_answer_that_is_no_answer_ends_the_benchmark() -> None:
    with pytest.raises(UnexpectedReplyError):
        error_reply({"error": {"code": "internal_error"}})
    with pytest.raises(UnexpectedReplyError):
        streamed_reply(b'data: {"choices": [{"delta": {"content": "half"}, "finish_reason": null}]}\n\n')


def test_the_proxy_gets_the_tokenizer_file_with_the_price_of_each_model(models: dict[str, Model]) -> None:
    file = deepseek_file()
    with upstream(models) as server:
        prices = json.loads(program.settings(server, file)["MODEL_PRICES"])
        assert prices["dear-o200k"] == {"input": 3.0, "output": 15.0, "tokenizer": str(file)}
        assert "tokenizer" not in program.settings(server)["MODEL_PRICES"]
    assert file.is_file()


# --- the report


@each_row(("overspend", "held", "status"), [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_the_exit_status_is_1_after_an_overspend_or_a_hold(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch, overspend: int, held: int, status: int
) -> None:
    result = Result(1_000, 1_000, 1_000 + overspend, 9, held_nanousd=held)
    monkeypatch.setattr(program, "run", lambda _options: [("memory", case_of(models, "growing"), result)])
    monkeypatch.setattr("sys.argv", ["utilisation", "--no-peers"])
    with pytest.raises(SystemExit) as exit_info:
        program.main()
    assert exit_info.value.code == status


def test_the_table_is_written_between_the_comments_of_the_page(
    models: dict[str, Model], tmp_path: Path
) -> None:
    case = case_of(models, "growing")
    results = [("memory", case, Result(1_000, 1_000, 900, 9)), ("SQLite", case, Result(1_000, 1_000, 700, 9))]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- utilisation: begin -->\nold\n<!-- utilisation: end -->\nafter\n")

    write_part(page, PART, as_markdown(results, program.price_of))

    text = page.read_text()
    assert "| growing, 0.27 USD, budget 0.10 | 90.0 (90.0) | 70.0 (70.0) | 9 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "2 agents, utilisation 80.0% in the mean" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 120
