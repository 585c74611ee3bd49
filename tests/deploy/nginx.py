"""A real nginx with the shipped files, on free ports, with a self-signed certificate."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import shutil
import ssl
import subprocess
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.process.fake_chutes_control import ROOT
from tests.process.server import wait_until
from tests.process.wire import Answer
from tests.support.missing import missing
from tests.support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

HOST = "proxy.example.com"

MAIN = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {more}
    include {folder}/site.conf;
}}
"""


def certify(folder: Path) -> None:
    """Write a self-signed certificate for the example's host name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "privkey.pem").write_bytes(pem)


class Nginx:
    """Run nginx with a shipped file, with the file's ports and paths replaced by those of the test."""

    def __init__(self, folder: Path, file: str, changes: dict[str, str], more: str = "") -> None:
        self._program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or missing(
            "nginx", "apt install nginx-light"
        )
        self._folder = folder
        self.port, self.plain_port = free_port(), free_port()
        site = (ROOT / "deploy" / file).read_text()
        replacements = {
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "    listen [::]:80;\n": "",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
            "    listen [::]:443 ssl;\n": "",
            "/var/www/html": str(folder / "html"),
            "/etc/letsencrypt/live/proxy.example.com": str(folder),
        }
        for shipped, local in {**replacements, **changes}.items():
            site = site.replace(shipped, local)
        (folder / "site.conf").write_text(site)
        user = (
            "user root;" if os.geteuid() == 0 else ""
        )  # by default `nobody`, which cannot write to the folder
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, more=more, user=user))

    def check(self) -> subprocess.CompletedProcess[str]:
        """Run `nginx -t` on the configuration."""
        command = [self._program, "-t", "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def __enter__(self) -> Self:
        command = [self._program, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "nginx")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            self.ask("GET", "/", tls=False)
        except OSError:
            return False
        return True

    def ask(  # noqa: PLR0913 - all but the first have a default
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        source: str = "127.0.0.1",
        tls: bool = True,
    ) -> Answer:
        """Send one request from an address and read the complete answer."""
        with closing(self.connect(source, tls=tls)) as connection:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())

    def connect(self, source: str, *, tls: bool = True) -> HTTPConnection:
        """Open a connection from an address."""
        if not tls:
            return HTTPConnection("127.0.0.1", self.plain_port, timeout=30, source_address=(source, 0))
        context = ssl.create_default_context(cafile=str(self._folder / "fullchain.pem"))
        return HTTPSConnection(
            "127.0.0.1", self.port, timeout=30, source_address=(source, 0), context=context
        )
