"""Start the gateways of others, one after another."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from bench.overspend.gateways import Gateway
from bench.overspend.peers.ferrogw import Ferrogw
from bench.overspend.peers.guide import GuideService
from bench.overspend.peers.litellm import LiteLLM
from bench.overspend.peers.otari import Otari
from bench.overspend.peers.rolter import Rolter
from bench.processes import MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.overspend.peers.peer_gateway import Offer, PeerGateway

    Start = Callable[[ExitStack, str, Sequence[Offer]], "GatewayT"]

GatewayT = TypeVar("GatewayT", bound=Gateway)

COMPLETIONS_PEERS: dict[str, Start[PeerGateway]] = {
    each.name: each for each in (LiteLLM, Otari, Ferrogw, Rolter)
}
"""Those that speak OpenAI's API. Portkey's gateway is not among them: it keeps no budgets."""

PEERS: dict[str, Start[Gateway]] = {GuideService.name: GuideService, **COMPLETIONS_PEERS}


def running(
    starts: dict[str, Start[GatewayT]], upstream_url: str, offers: Sequence[Offer], say: Callable[[str], None]
) -> Iterator[GatewayT]:
    """Each gateway while it runs: it stops when the next one is asked for. Says why one is left out."""
    for name, start in starts.items():
        with ExitStack() as stack:
            try:
                gateway = start(stack, upstream_url, offers)
            except MissingProgramError as reason:
                say(f"{name} is left out: {reason}")
                continue
            yield gateway
