"""Ways to an index that companies have: authorities of their own, certificates of users, proxies."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kernel_builder.errors import FetchError
from tests.sdk.loopback_index import LoopbackIndex, serve_index
from tests.sdk.places import Place
from tests.sdk.wheels import WheelRecipe, make_wheel

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Authority:
    """One that nobody trusts yet. file: its certificate."""

    file: Path
    key: Key
    certificate: x509.Certificate

    def issue(self, name: str) -> Path:
        """A certificate of this authority with its key, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        path = self.file.with_name(f"{name}.pem")
        path.write_bytes(encode(sign(name, key, self.certificate.subject, self.key, is_authority=False), key))
        return path


def sign(name: str, key: Key, issuer: x509.Name | None, issuer_key: Key, *, is_authority: bool) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder(issuer or subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def encode(certificate: x509.Certificate, key: Key) -> bytes:
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + secret


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = sign("An authority", key, None, key, is_authority=True)
    path = tmp_path_factory.mktemp("authority") / "authority.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(path, key, certificate)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    make_wheel(WheelRecipe(padding=1000, libraries=("libc10.so",)), tmp_path / "wheels")
    return Place(tmp_path / "wheels", tmp_path / "cache")


def server_context(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("server"))
    return context


def test_an_authority_of_ones_own_is_trusted_where_it_is_named(place: Place, authority: Authority) -> None:
    with serve_index(place.wheels, tls=server_context(authority)) as index:
        with pytest.raises(FetchError, match=r"cannot reach `https://127.0.0.1") as raised:
            place.obtain(settings=place.settings(index.url, retries=0))
        assert "`cert` in pip's configuration" in (raised.value.problems[0].hint or "")
        assert place.slices == []
        sdk = place.obtain(settings=place.settings(index.url, certificate=authority.file))
        assert (sdk.include_dir / "ATen/ATen.h").is_file()


def test_a_trusted_host_is_not_asked_for_its_certificate(place: Place, authority: Authority) -> None:
    with serve_index(place.wheels, tls=server_context(authority)) as index:
        place.obtain(settings=place.settings(index.url, trusted_hosts=("127.0.0.1",)))


def test_a_user_may_need_a_certificate(place: Place, authority: Authority) -> None:
    context = server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    with serve_index(place.wheels, tls=context) as index:
        settings = place.settings(index.url, certificate=authority.file, retries=0)
        with pytest.raises(FetchError, match="cannot reach"):
            place.obtain(settings=settings)
        own = authority.issue("user")
        place.obtain(settings=place.settings(index.url, certificate=authority.file, client_certificate=own))


@contextmanager
def serve_proxy() -> Iterator[tuple[str, list[str | None]]]:
    """A proxy for plain HTTP; it notes the credentials that each request has for it."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            """Say nothing."""

        def do_GET(self) -> None:
            seen.append(self.headers.get("Proxy-Authorization"))
            kept = {name: value for name, value in self.headers.items() if name in {"Range", "Accept"}}
            request = urllib.request.Request(self.path, headers=kept)  # noqa: S310 - to the loopback index
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(request, timeout=20) as answer:
                body = answer.read()
                self.send_response(answer.status)
                for name in ("Content-Type", "Content-Range"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def test_a_proxy_gets_its_own_credentials_and_not_those_of_the_index(place: Place) -> None:
    with serve_index(place.wheels) as index, serve_proxy() as (proxy, seen):
        check_proxy(place, index, proxy, seen)


def check_proxy(place: Place, index: LoopbackIndex, proxy: str, seen: list[str | None]) -> None:
    place.obtain(settings=place.settings(index.url, proxy=f"http://anna:secret@{proxy}"))
    assert len(seen) == len(index.requests) > 0
    assert set(seen) == {f"Basic {base64.b64encode(b'anna:secret').decode()}"}
    assert {request.authorization for request in index.requests} == {None}
