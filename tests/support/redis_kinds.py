"""Redis servers with TLS and a password, and a Redis Cluster, for tests."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.ports import free_port
from tests.support.redis_server import POLL_SECONDS, START_SECONDS, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SLOTS = 16_384
NODES = 3
NODE_TIMEOUT_MILLISECONDS = 1_000
PASSWORD = "pass word/of@redis"
PASSWORD_IN_URL = "pass%20word%2Fof%40redis"


class TlsRedisServer(RedisServer):
    """A server with a second port, which takes TLS only."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._key, self.certificate = folder / "key.pem", folder / "certificate.pem"
        write_certificate(self._key, self.certificate)

    def choose_ports(self) -> None:
        super().choose_ports()
        self.tls_port = free_port()

    def _command(self, program: str) -> list[str]:
        return [
            *(*super()._command(program), "--tls-port", str(self.tls_port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(self.certificate), "--tls-key-file", str(self._key)),
            *("--tls-ca-cert-file", str(self.certificate)),
        ]


@contextmanager
def redis_with_tls(folder: Path) -> Iterator[str]:
    """Start a server that takes TLS and a password. Yields its URL."""
    with TlsRedisServer(folder) as server:
        server.client.config_set("requirepass", PASSWORD)
        yield (f"rediss://:{PASSWORD_IN_URL}@localhost:{server.tls_port}/3?ssl_ca_certs={server.certificate}")


def write_certificate(key_file: Path, certificate_file: Path) -> None:
    """Write a self-signed certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    unencrypted = serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unencrypted))
    certificate_file.write_bytes(certificate.public_bytes(pem))


@contextmanager
def redis_cluster(*arguments: str, replicas: int = 0) -> Iterator[tuple[str, list[RedisServer]]]:
    """Start a Cluster. Yields its URL and its nodes: the masters, then `replicas` for each of them."""
    clustered = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MILLISECONDS))
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(RedisServer(*clustered, *arguments)) for _ in range(NODES * (1 + replicas))
        ]
        for index, node in enumerate(nodes):
            node.ask("CLUSTER SET-CONFIG-EPOCH", index + 1)
            node.ask("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        for index, node in enumerate(nodes[:NODES]):
            node.ask("CLUSTER ADDSLOTS", *range(index * SLOTS // NODES, (index + 1) * SLOTS // NODES))
        wait_for(
            lambda: all(node.ask("CLUSTER INFO")["cluster_known_nodes"] == str(len(nodes)) for node in nodes)
        )
        for index, node in enumerate(nodes[NODES:]):
            node.ask("CLUSTER REPLICATE", nodes[index % NODES].ask("CLUSTER MYID").decode())
        wait_for(lambda: all(is_whole(node, replicas) for node in nodes))
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes[:2])
        yield f"redis+cluster://{hosts}", nodes


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(POLL_SECONDS)


def is_whole(node: RedisServer, replicas: int) -> bool:
    """Whether the node knows the server of each slot, and its replication is up to date."""
    slots = node.ask("CLUSTER SLOTS")
    replication = node.client.info("replication")
    linked = replication.get("master_link_status", "up") == "up"
    followed = replication["role"] != "master" or replication["connected_slaves"] == replicas
    served = len(slots) == NODES and all(len(row) == 2 + 1 + replicas for row in slots)
    return node.ask("CLUSTER INFO")["cluster_state"] == "ok" and served and linked and followed
