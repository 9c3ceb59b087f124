"""Authorities that sign whatever a test wants: weak keys, wrong uses, ended certificates (RFC 5280)."""

from __future__ import annotations

import ipaddress
import subprocess
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """An RSA key; the same one again, for they take long to find."""
    return rsa.generate_private_key(65537, bits)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Authority:
    """A root, or an authority below ``above``."""

    def __init__(self, name: str, above: Authority | None = None) -> None:
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        issuer = above or self
        builder = issuer._builder(self._name, self._key, -1, 1)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = builder.sign(issuer._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        """The authority's own certificate."""

    def _builder(self, subject: x509.Name, key: Key, begun: float, ends: float) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begun))
            .not_valid_after(now + timedelta(days=ends))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def issue(
        self,
        name: str,
        *,
        key: Key | None = None,
        use: x509.ObjectIdentifier = CLIENT,
        days: tuple[float, float] = (-1, 1),
        hosts: tuple[str, ...] = (),
    ) -> tuple[bytes, bytes]:
        """A certificate and its key as PEM; ``days`` from now until which it counts, P-256 unless said."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key, *days).add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([_alternative(h) for h in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)

    def issue_by_sha1(self, folder: Path, name: str) -> tuple[bytes, bytes]:
        """A client's certificate and key as PEM, signed with SHA-1, which our library refuses to make."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(key, hashes.SHA256())
        for file, data in (("ca.crt", self.pem), ("ca.key", _pem(self._key)), ("use", b"extendedKeyUsage=clientAuth")):
            (folder / file).write_bytes(data)
        made = subprocess.run(
            ["openssl", "x509", "-req", "-sha1", "-days", "1", "-CA", "ca.crt", "-CAkey", "ca.key", "-extfile", "use"],
            input=request.public_bytes(serialization.Encoding.PEM),
            capture_output=True,
            check=True,
            cwd=folder,
        )
        return made.stdout, _pem(key)


def _pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write(folder: Path, name: str, pair: tuple[bytes, bytes]) -> tuple[Path, Path]:
    """Put a certificate and its key down as <name>.crt and <name>.key; returns their paths."""
    folder.mkdir(exist_ok=True)
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    for path, data in zip(paths, pair, strict=True):
        path.write_bytes(data)
    return paths
