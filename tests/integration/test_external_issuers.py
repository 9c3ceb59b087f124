"""What the operator makes of issuers that can't be used: real servers, real certificates."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domicile.api.sso import ExternalIssuer
from domicile.api.zone import ApprovedIssuer
from domicile.controllers.issuer.issuers import FAULT_SECONDS, LOOK_SECONDS, Issuers
from tests import identities
from tests.integration.apiserver import free_port
from tests.unit.test_external_issuer import APPROVED, EXTERNAL

Object = dict[str, Any]
SECRET = "0123456789abcdef"


def certificate(folder: Path, days: int) -> tuple[Path, str]:
    """A file with a key and its certificate for localhost, which ends in so many days; and the certificate (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    until = datetime.now(UTC) + timedelta(days=days)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=30))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / f"server-{days}.pem"
    file.write_bytes(plain + pem)
    return file, pem.decode()


class Issuer:
    """An issuer over TLS whose every answer a test can change; ``asked``: paths in their order."""

    def __init__(self, pair: Path) -> None:
        outer = self
        self.asked: list[str] = []
        self.metadata: Object = {}
        self.redirect: str | None = None
        self.raw: bytes | None = None
        self.token: Object = {"error": "invalid_grant"}
        self.hold = threading.Event()
        self.hold.set()
        self.redeemed = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({"/keys": {"keys": [identities.jwk("first")]}}.get(self.path, outer.document))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                outer.redeemed += 1
                outer.hold.wait(20)
                self._answer(outer.token, 400)

            def _answer(self, said: Object, status: int = 200) -> None:
                outer.asked.append(self.path)
                body = outer.raw if outer.raw is not None else json.dumps(said).encode()
                self.send_response(302 if outer.redirect else status)
                if outer.redirect:
                    self.send_header("Location", outer.redirect)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Nothing: pytest's output is for the tests."""

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.url = f"https://localhost:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def document(self) -> Object:
        """What it publishes."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/auth",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            **self.metadata,
        }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Issuer, str]]:
    pair, authority = certificate(tmp_path, 30)
    issuer = Issuer(pair)
    yield issuer, authority
    issuer.server.shutdown()
    issuer.server.server_close()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def look(issuers: Issuers, url: str, port: int, authority: str, secret: str | None = SECRET) -> tuple[str, str]:
    """Reason and message of what is wrong, empty where nothing is."""
    external = ExternalIssuer.model_validate(EXTERNAL | {"issuer": url})
    approved = ApprovedIssuer.model_validate(APPROVED | {"issuer": url, "port": port, "hosts": []})
    state = await issuers.look(external, approved, authority, secret)
    assert bool(state.metadata and state.keys) or state.error
    return state.error or ("", "")


async def test_a_good_issuer_is_asked_no_more_often_than_needed(server: tuple[Issuer, str]) -> None:
    issuer, authority = server
    clock = Clock()
    issuers = Issuers(clock)
    for _ in range(3):
        assert await look(issuers, issuer.url, issuer.port, authority) == ("", "")
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys", "/token"]
    clock.now += LOOK_SECONDS
    assert await look(issuers, issuer.url, issuer.port, authority) == ("", "")
    assert issuer.asked[3:] == ["/.well-known/openid-configuration", "/keys"]


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client"])
async def test_a_client_that_the_issuer_does_not_know_is_told_without_its_secret(
    server: tuple[Issuer, str], error: str
) -> None:
    issuer, authority = server
    issuer.token = {"error": error, "error_description": SECRET}
    reason, message = await look(Issuers(), issuer.url, issuer.port, authority)
    assert reason == "IssuerRefusesClient"
    assert "corp-login" in message
    assert SECRET not in message


async def test_without_authorities_no_certificate_counts(server: tuple[Issuer, str]) -> None:
    issuer, _ = server
    reason, message = await look(Issuers(), issuer.url, issuer.port, "")
    assert reason == "IssuerCertificateRefused"
    assert "<zone>.pem" in message
    assert issuer.asked == []


async def test_a_token_endpoint_that_hangs_holds_up_one_tenant_and_not_all(server: tuple[Issuer, str]) -> None:
    issuer, authority = server
    clock = Clock()
    issuers = Issuers(clock)
    issuer.hold.clear()
    tenants = (SECRET, f"{SECRET}-2", f"{SECRET}-3")
    found = await asyncio.gather(*(look(issuers, issuer.url, issuer.port, authority, s) for s in tenants))
    assert [reason for reason, _ in found] == ["IssuerUnreachable"] * 3
    assert issuer.redeemed == 1
    issuer.hold.set()
    clock.now += FAULT_SECONDS
    for secret in tenants:
        assert await look(issuers, issuer.url, issuer.port, authority, secret) == ("", "")
    assert issuer.redeemed == 4


async def test_what_was_known_of_an_issuer_that_falls_silent_stays(server: tuple[Issuer, str]) -> None:
    issuer, authority = server
    clock = Clock()
    issuers = Issuers(clock)
    external = ExternalIssuer.model_validate(EXTERNAL | {"issuer": issuer.url})
    approved = ApprovedIssuer.model_validate(APPROVED | {"issuer": issuer.url, "port": issuer.port})
    before = await issuers.look(external, approved, authority, SECRET)
    issuer.raw, clock.now = b"<html>", LOOK_SECONDS
    after = await issuers.look(external, approved, authority, SECRET)
    assert (after.metadata, after.keys) == (before.metadata, before.keys)
    assert after.error is not None
    issuer.raw = None
    assert (await issuers.look(external, approved, authority, SECRET)).error == after.error, "was asked a moment ago"
    clock.now += FAULT_SECONDS
    assert (await issuers.look(external, approved, authority, SECRET)).error is None


@pytest.mark.parametrize(
    ("change", "reason", "told"),
    [
        ({"metadata": {"issuer": "https://localhost/x"}}, "IssuerMetadataWrong", "another issuer"),
        ({"metadata": {"jwks_uri": "https://127.0.0.1:9/keys"}}, "IssuerEndpointOutside", "127.0.0.1"),
        ({"redirect": "https://127.0.0.1:9/"}, "IssuerUnreachable", "answers 302"),
        ({"raw": b"<html>"}, "IssuerMetadataWrong", "no JSON object"),
        ({"raw": b"[" * 100000}, "IssuerMetadataWrong", "no JSON object"),
        ({"raw": b" " * 600000}, "IssuerMetadataWrong", "larger than"),
    ],
)
async def test_each_wrong_answer_has_its_cause_and_leads_nowhere(
    server: tuple[Issuer, str], change: Object, reason: str, told: str
) -> None:
    issuer, authority = server
    for field, value in change.items():
        setattr(issuer, field, value)
    found, message = await look(Issuers(), issuer.url, issuer.port, authority)
    assert found == reason
    assert told in message
    assert issuer.asked == ["/.well-known/openid-configuration"]


async def test_nobody_there_an_expired_certificate_and_a_strange_one(
    server: tuple[Issuer, str], tmp_path: Path
) -> None:
    issuer, authority = server
    port = free_port()
    reason, message = await look(Issuers(), f"https://localhost:{port}", port, authority)
    assert (reason, f"localhost:{port} does not answer" in message) == ("IssuerUnreachable", True)
    expired, its_own = certificate(tmp_path, -1)
    old = Issuer(expired)
    try:
        assert (await look(Issuers(), old.url, old.port, its_own))[0] == "IssuerCertificateExpired"
    finally:
        old.server.shutdown()
        old.server.server_close()
    assert (await look(Issuers(), issuer.url, issuer.port, its_own))[0] == "IssuerCertificateRefused"
    assert issuer.asked == []
