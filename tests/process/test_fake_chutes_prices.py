"""The prices of the fake Chutes, and what it bills by them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import requests

from ridges_proxy.fake_chutes.__main__ import main
from tests.process.fake_chutes_client import MODEL, PATIENCE_SECONDS, ask, post
from tests.process.fake_chutes_control import Upstream
from tests.support.table import each_row

if TYPE_CHECKING:
    from collections.abc import Iterator

ODD_NAME = "odd/model=2"


@pytest.fixture(scope="module")
def chutes_with_prices() -> Iterator[Upstream]:
    arguments = [f"--model-price={MODEL}=0.3,1.2", f"--model-price={ODD_NAME}=0.0000001,5"]
    with Upstream(*arguments) as started:
        yield started


def bill_of(chutes: Upstream, model: str) -> tuple[int, int, int]:
    post(chutes, ask(model=model))
    call = chutes.calls()[-1]
    assert call["model"] == model
    return call["prompt_tokens"], call["completion_tokens"], call["billed_nanousd"]


def test_input_and_output_are_billed_at_the_rates_of_the_model(chutes_with_prices: Upstream) -> None:
    prompt, completion, nanousd = bill_of(chutes_with_prices, MODEL)
    assert nanousd == prompt * 300 + completion * 1200


def test_a_bill_is_rounded_up_once(chutes_with_prices: Upstream) -> None:
    _, completion, nanousd = bill_of(chutes_with_prices, ODD_NAME)
    assert nanousd == completion * 5000 + 1


def test_a_model_without_its_own_rates_is_billed_at_the_default_rate(chutes_with_prices: Upstream) -> None:
    prompt, completion, nanousd = bill_of(chutes_with_prices, "any/other")
    assert nanousd == (prompt + completion) * 270


def test_the_list_of_models_shows_the_rates(chutes_with_prices: Upstream) -> None:
    answer = requests.get(f"{chutes_with_prices.url}/v1/models", timeout=PATIENCE_SECONDS).json()
    models = {each["id"]: each for each in answer["data"]}
    assert len(models) == len(answer["data"])
    assert models[MODEL]["pricing"] == {"prompt": 0.3, "completion": 1.2}
    assert (models[MODEL]["price"]["input"]["usd"], models[MODEL]["price"]["output"]["usd"]) == (0.3, 1.2)
    assert models[ODD_NAME]["pricing"] == {"prompt": 1e-7, "completion": 5.0}
    assert models["zai-org/GLM-4.5-FP8"]["pricing"] == {"prompt": 0.27, "completion": 0.27}


@each_row("price", ["x", "=1,2", "x=1", "x=1,2,3", "x=1,two", "x=-1,2", "x=NaN,1", "x=1,Infinity"])
def test_an_invalid_price_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, price: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["fake_chutes", f"--model-price={price}"])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    assert (ended.value.code, output.out) == (2, "")
    assert "--model-price" in output.err
