"""Measure how much of its budget an agent can use, compared with a gate that knows every count.

    python -m bench.utilisation [--quick] [--kinds KIND,…] [--ledgers LEDGER,…] [--workers N,…]
                                [--tokenizers NAME,…] [--tokenizer-file] [--seeds N]
                                [--no-peers | --only-peers] [--page FILE] [--json FILE]

Six kinds of agents work through this proxy until a call is refused for good, at a low and at a high price, on
each ledger, with one worker and with four. The upstream bills by two real tokenizers. `--quick` runs one seed
with one worker, and only this proxy. `--tokenizer-file` gives the proxy the file of the deepseek tokenizer,
and leaves out the other one and the peers. `--page` writes the tables into docs/reference/overspend.md, in
place of those that are there.

The same agents work through the gateways of others that keep a budget for each run (bench/overspend/peers).
One that cannot be run here is left out, with a line that says why.

Exits with 1 if an agent overspent through this proxy, or if a hold was left.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.options import argument_parser
from bench.overspend.peers.peer_gateway import Offer
from bench.overspend.peers.start import COMPLETIONS_PEERS, running
from bench.overspend.proxy_gateway import DEPLOYMENTS, TOKEN_KEY, Deployment, proxy_gateway
from bench.pages import write_part
from bench.processes import raise_file_limit
from bench.utilisation.agents import AGENTS
from bench.utilisation.model import Model
from bench.utilisation.peer_gate import PeerGate
from bench.utilisation.proxy_gate import ProxyGate
from bench.utilisation.replies import UnexpectedReplyError
from bench.utilisation.report import PART, as_json, as_markdown, faults, peers_as_markdown
from bench.utilisation.tokenizers import TOKENIZERS, Tokenizer, deepseek_file
from bench.utilisation.trial import Case, exact_nanousd, run_case
from bench.utilisation.upstream import upstream
from ridges_proxy.billing.money import NANOUSD_PER_USD
from ridges_proxy.billing.prices import Price
from ridges_proxy.cli.progress import progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from bench.utilisation.report import Results
    from bench.utilisation.upstream import Upstream

SEEDS = 3
PRICES_USD = {"cheap": (0.27, 0.27), "dear": (3.0, 15.0)}
"""Of a million tokens of the prompt and of the completion."""

BUDGETS_USD = {"cheap": 0.10, "dear": 2.00}

DEPLOYMENTS_OF_ONE_MACHINE = [each for each in DEPLOYMENTS if each.machines == 1]


def main() -> None:
    options = parse_options()
    raise_file_limit()
    results = [] if options.only_peers else run(options)
    of_peers = [] if options.no_peers else run_peers(options)
    text = "\n".join(
        [
            *([as_markdown(results, price_of)] if results else []),
            *([peers_as_markdown(of_peers, price_of)] if of_peers else []),
        ]
    )
    print(text)
    if options.json:
        options.json.write_text(json.dumps(as_json(results, of_peers), indent=1))
    if options.page:
        write_part(options.page, PART, text)
    problems = faults(results)
    print(*problems, sep="\n", file=sys.stderr)
    sys.exit(bool(problems))


def parse_options() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    ledgers = list(dict.fromkeys(each.store for each in DEPLOYMENTS_OF_ONE_MACHINE))
    parser.add_argument("--quick", action="store_true", help="one seed, one worker")
    parser.add_argument("--kinds", default=",".join(AGENTS), help=f"of {', '.join(AGENTS)}")
    parser.add_argument("--ledgers", default=",".join(ledgers), help=f"of {', '.join(ledgers)}")
    parser.add_argument("--workers", default="1,4", help="of 1 and 4; memory has 1 (1,4)")
    parser.add_argument("--tokenizers", default=",".join(TOKENIZERS), help=f"of {', '.join(TOKENIZERS)}")
    parser.add_argument("--tokenizer-file", action="store_true", help="let the proxy count by a file")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"agents of each sort ({SEEDS})")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--no-peers", action="store_true", help="only this proxy")
    only.add_argument("--only-peers", action="store_true", help="only the other gateways")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the table into this page, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file, too")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.workers = 1, "1"
    if options.tokenizer_file:
        options.tokenizers = "deepseek"
    options.no_peers |= options.quick or options.tokenizer_file
    if unknown := set(options.kinds.split(",")) - AGENTS.keys():
        parser.error(f"no kind is named {', '.join(sorted(unknown))}")
    if not chosen_deployments(options):
        parser.error("no such ledger with so many workers")
    return options


def chosen_deployments(options: argparse.Namespace) -> list[Deployment]:
    return [
        each
        for each in DEPLOYMENTS_OF_ONE_MACHINE
        if each.store in options.ledgers.split(",") and str(each.workers) in options.workers.split(",")
    ]


def run(options: argparse.Namespace) -> Results:
    """Run every case on every deployment."""
    models = make_models(options.tokenizers.split(","))
    cases = list(make_cases(models, options.kinds.split(","), options.seeds))
    exact = {case: exact_nanousd(case) for case in cases}
    deployments = chosen_deployments(options)
    results: Results = []
    with upstream(models) as server, progress() as display:
        proxy_settings = settings(server, deepseek_file() if options.tokenizer_file else None)
        for deployment in deployments:
            with proxy_gateway(server.url, deployment, proxy_settings) as gateway:
                gate = ProxyGate(gateway, server.meter)
                for case in cases:
                    result = run_case(case, gate, exact[case])
                    results.append((gateway.name, case, result))
                    names = f"{gateway.name}: {case.kind}, {case.model.name}, {case.seed}"
                    display.say(f"{names}: {result.utilisation:.1%} {result}")
                    display("agents", len(results), len(deployments) * len(cases))
    return results


def run_peers(options: argparse.Namespace) -> Results:
    """Run every case through the gateways of others. A case that one fails is left out, with a line."""
    models = make_models(options.tokenizers.split(","))
    cases = list(make_cases(models, options.kinds.split(","), options.seeds))
    exact = {case: exact_nanousd(case) for case in cases}
    results: Results = []
    with upstream(models) as server, progress() as display:
        for gateway in running(COMPLETIONS_PEERS, server.url, list(make_offers(cases)), display.say):
            gate = PeerGate(gateway, server.meter)
            for case in cases:
                names = f"{gateway.name}: {case.kind}, {case.model.name}, {case.seed}"
                try:
                    result = run_case(case, gate, exact[case])
                except UnexpectedReplyError as error:
                    display.say(f"{names} is left out: {error}")
                    continue
                results.append((gateway.name, case, result))
                display.say(f"{names}: {result.utilisation:.1%} {result}")
                display("agents of the others", len(results), len(COMPLETIONS_PEERS) * len(cases))
    return results


def make_offers(cases: list[Case]) -> Iterator[Offer]:
    """The budget of each price level, with its models and a run for each case."""
    for level, prices_usd in PRICES_USD.items():
        of_level = [case for case in cases if _price_level(case.model) == level]
        prices = {case.model.name: prices_usd for case in of_level}
        yield Offer(round(BUDGETS_USD[level] * NANOUSD_PER_USD), prices, len(of_level))


def make_models(tokenizers: list[str]) -> dict[str, Model]:
    """A model for each tokenizer and price, by its name."""
    loaded = {name: Tokenizer(name) for name in tokenizers}
    return {
        f"{price}-{name}": Model(
            f"{price}-{name}",
            tokenizer,
            Price(round(input_usd * NANOUSD_PER_USD), round(output_usd * NANOUSD_PER_USD)),
        )
        for price, (input_usd, output_usd) in PRICES_USD.items()
        for name, tokenizer in loaded.items()
    }


def make_cases(models: dict[str, Model], kinds: list[str], seeds: int) -> Iterator[Case]:
    for kind in kinds:
        for model in models.values():
            budget_nanousd = round(BUDGETS_USD[_price_level(model)] * NANOUSD_PER_USD)
            for seed in range(seeds):
                yield Case(kind, model, budget_nanousd, seed)


def price_of(case: Case) -> str:
    """The prices and the budget of a case, as the table names them."""
    level = _price_level(case.model)
    rates = " and ".join(f"{rate:g}" for rate in dict.fromkeys(PRICES_USD[level]))
    return f"{rates} USD, budget {BUDGETS_USD[level]:.2f}"


def settings(server: Upstream, tokenizer_file: Path | None = None) -> dict[str, str]:
    """The proxy's settings. Those that are not here have their defaults."""
    prices: dict[str, dict[str, float | str]] = {}
    for name, model in server.models.items():
        input_usd, output_usd = PRICES_USD[_price_level(model)]
        prices[name] = {"input": input_usd, "output": output_usd}
        if tokenizer_file:
            prices[name]["tokenizer"] = str(tokenizer_file)
    return {
        "MODEL_PRICES": json.dumps(prices),
        "DEFAULT_MODEL": next(iter(prices)),
        "RUN_TOKEN_KEY": TOKEN_KEY,
        "MAX_CONCURRENT_CALLS_PER_RUN": "100",  # above the calls that an agent makes at once
    }


def _price_level(model: Model) -> str:
    return model.name.partition("-")[0]


if __name__ == "__main__":
    main()
