"""Certificates of a cluster: one authority, serving and client certificates, and kubeconfigs (P-256, RFC 5280).

Valid from a day ago, so that a test that skews a clock doesn't break TLS.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import threading
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Control plane and nodes of a cluster start at the same time and share its authority.
_making = threading.RLock()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".new")
    scratch.touch(0o600)
    scratch.write_bytes(data)
    scratch.replace(path)


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    # SEC 1, because client-go reads the key of service accounts in no other form.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def service_account_key(path: Path) -> None:
    """Write the key that signs service-account tokens, unless it is there."""
    if not path.exists():
        _write(path, _key_bytes(ec.generate_private_key(ec.SECP256R1())))


@dataclass(frozen=True)
class Authority:
    """A certificate authority that lives in a folder as ca.crt and ca.key; made at first use."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """Path of the authority's certificate."""
        return self.folder / "ca.crt"

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        if not self.certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "testbed")])
            builder = self._builder(name, name, key).add_extension(x509.BasicConstraints(True, None), critical=True)
            certificate = builder.sign(key, hashes.SHA256())
            _write(self.folder / "ca.key", _key_bytes(key))
            _write(self.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        loaded = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()), loaded

    @staticmethod
    def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=3650))
        )

    def issue(
        self, name: str, common_name: str, organization: str = "", hosts: tuple[str, ...] = ()
    ) -> tuple[Path, Path]:
        """Paths of a certificate and its key, for clients and for serving ``hosts``; kept once made."""
        certificate, key_path = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        with _making:
            if not certificate.exists():
                self._make(certificate, key_path, common_name, organization, hosts)
        return certificate, key_path

    def _make(
        self, certificate: Path, key_path: Path, common_name: str, organization: str, hosts: tuple[str, ...]
    ) -> None:
        ca, ca_key = self._load()
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
        subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = self._builder(subject, ca.subject, key).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False
            )
        _write(key_path, _key_bytes(key))
        _write(certificate, builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def kubeconfig(self, name: str, server: str, user: str, organization: str = "") -> Path:
        """Path of a self-contained kubeconfig for a user; kept once made."""
        path = self.folder / f"{name}.kubeconfig"
        certificate, key = self.issue(f"client-{name}", user, organization)
        with _making:
            if path.exists():
                return path
            encoded = [base64.b64encode(p.read_bytes()).decode() for p in (self.certificate, certificate, key)]
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": encoded[0]}}],
                "users": [
                    {"name": "u", "user": {"client-certificate-data": encoded[1], "client-key-data": encoded[2]}}
                ],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
            _write(path, json.dumps(config).encode())
        return path


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
