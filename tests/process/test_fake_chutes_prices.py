from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

from tests.process.fake_chutes_client import MODEL, PATIENCE_SECONDS, ask, post
from tests.process.fake_chutes_control import ROOT, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW = "odd/model=2"


@pytest.fixture(scope="module")
def priced() -> Iterator[Upstream]:
    arguments = [f"--model-price={MODEL}=0.3,1.2", f"--model-price={NEW}=0.0000001,5"]
    with Upstream(*arguments) as started:
        yield started


def billed(chutes: Upstream, model: str) -> tuple[int, int, int]:
    post(chutes, ask(model=model))
    call = chutes.calls()[-1]
    assert call["model"] == model
    return call["prompt_tokens"], call["completion_tokens"], call["billed_nanousd"]


def test_input_and_output_are_billed_at_the_rates_of_the_model(priced: Upstream) -> None:
    prompt, completion, nanousd = billed(priced, MODEL)
    assert nanousd == prompt * 300 + completion * 1200


def test_a_models_bill_is_rounded_up_once(priced: Upstream) -> None:
    _, completion, nanousd = billed(priced, NEW)
    assert nanousd == completion * 5000 + 1


def test_a_model_without_rates_of_its_own_costs_what_all_do(priced: Upstream) -> None:
    prompt, completion, nanousd = billed(priced, "any/other")
    assert nanousd == (prompt + completion) * 270


def test_the_list_of_models_shows_the_rates(priced: Upstream) -> None:
    answer = requests.get(f"{priced.url}/v1/models", timeout=PATIENCE_SECONDS).json()
    models = {each["id"]: each for each in answer["data"]}
    assert len(models) == len(answer["data"])
    assert models[MODEL]["pricing"] == {"prompt": 0.3, "completion": 1.2}
    assert (models[MODEL]["price"]["input"]["usd"], models[MODEL]["price"]["output"]["usd"]) == (0.3, 1.2)
    assert models[NEW]["pricing"] == {"prompt": 1e-7, "completion": 5.0}
    assert models["zai-org/GLM-4.5-FP8"]["pricing"] == {"prompt": 0.27, "completion": 0.27}


@pytest.mark.parametrize(
    "price", ["x", "=1,2", "x=1", "x=1,2,3", "x=1,two", "x=-1,2", "x=NaN,1", "x=1,Infinity"]
)
def test_a_price_that_is_none_ends_the_start(price: str) -> None:
    command = [sys.executable, "-m", "ridges_proxy.fake_chutes", f"--model-price={price}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--model-price" in ended.stderr
