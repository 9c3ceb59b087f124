"""The private certificate authority of an installation, and the plan by which it is followed by new ones. Pure.

Several authorities stand side by side while one follows the other. All are in the bundle; the plan says who signs:

    made            in the bundle, signs nothing
    + KNOWN         signs: every leaf that still counts was written together with a bundle that has it
    + ROTATION      its successor is made
    ...             the successor signs: its key is destroyed, its last leaves run out
    + LEAF + SLACK  it leaves the bundle: nothing that it has signed counts any more

A leaf and its holder's bundle are one Secret. So whoever holds a leaf that counts has a bundle that is at most ``LEAF``
old, however late it is to hear of a change, and the whole plan follows from the moments at which authorities were made.
Certificates are as in RFC 5280.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LEAF = timedelta(days=30)
"""How long a leaf counts."""
SLACK = timedelta(hours=1)
"""How far clocks may differ, and how long a process may sign that has not heard of a change yet."""
KNOWN = LEAF + SLACK
"""How long an authority is in the bundles before it signs."""
ROTATION = timedelta(days=365)
"""Age at which a successor is made."""
LIFE = timedelta(days=2 * 365)
"""How long an authority counts; an operator that was away for months finds one that still does."""
BACKDATED = timedelta(minutes=10)
"""Certificates count from a little earlier on, for holders whose clocks are behind."""


class BrokenError(Exception):
    """What was read is no set of authorities; the text holds no key."""


@dataclass(frozen=True)
class Authority:
    """A certificate that is its own issuer. ``key``: None once it no longer signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None

    @property
    def made(self) -> datetime:
        """When (UTC)."""
        return self.certificate.not_valid_before_utc + BACKDATED

    @property
    def ends(self) -> datetime:
        """Until when it counts (UTC)."""
        return self.certificate.not_valid_after_utc


Authorities = tuple[Authority, ...]
"""Oldest first."""


def make(now: datetime) -> Authority:
    """A new authority, for leaves only."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A name of its own: a chain is looked for by names first.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"domicile pods {serial:x}"[:64])])
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def signer(authorities: Authorities, now: datetime) -> Authority | None:
    """Who signs at ``now``: the newest that every holder knows; None where nobody can.

    Where none is known whose key is there and that still counts, no leaf counts either, and the next one signs at once.
    """
    able = [a for a in authorities if a.key is not None and a.made - BACKDATED <= now < a.ends]
    known = [a for a in able if a.made + KNOWN <= now]
    if known:
        return known[-1]
    return able[0] if able else None


def tend(authorities: Authorities, now: datetime, new: Callable[[datetime], Authority] = make) -> Authorities:
    """The authorities as they should be at ``now``; the same ones where nothing is due."""
    due = not authorities or signer(authorities, now) is None or authorities[-1].made + ROTATION <= now
    kept = (*authorities, new(now)) if due else authorities
    signs = signer(kept, now)
    if signs is None:
        raise ValueError("a new authority can't sign at the moment it was made for")
    at = kept.index(signs)
    silent = tuple(replace(a, key=None) for a in kept[:at] if not _over(a, kept, now))
    return (*silent, *kept[at:])


def _over(authority: Authority, authorities: Authorities, now: datetime) -> bool:
    """Whether nothing counts any more that it signed: its successor has signed for longer than a leaf lasts."""
    successor = authorities[authorities.index(authority) + 1]
    return authority.ends <= now or successor.made + KNOWN + LEAF + SLACK <= now


def bundle(authorities: Authorities) -> bytes:
    """Certificates of all authorities (PEM), oldest first."""
    return b"".join(a.certificate.public_bytes(serialization.Encoding.PEM) for a in authorities)


def keys(authorities: Authorities) -> bytes:
    """Keys of those that sign or will sign (PKCS #8, PEM), oldest first."""
    return b"".join(pem(a.key) for a in authorities if a.key is not None)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key as PKCS #8 in PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def parse(certificates: bytes, secret_keys: bytes) -> Authorities:
    """What ``bundle`` and ``keys`` wrote. Raises BrokenError."""
    try:
        found = x509.load_pem_x509_certificates(certificates)
        loaded = [_load(block) for block in _blocks(secret_keys)]
    except (ValueError, TypeError) as error:
        raise BrokenError(f"not certificates and keys in PEM ({type(error).__name__})") from None
    authorities = [Authority(c, _of(c, loaded)) for c in found]
    if len(loaded) != sum(a.key is not None for a in authorities):
        raise BrokenError("a key belongs to none of the certificates")
    return tuple(sorted(authorities, key=lambda a: a.made))


def _blocks(text: bytes) -> Sequence[bytes]:
    end = b"-----END PRIVATE KEY-----\n"
    return [part + end for part in text.split(end) if part.strip()]


def _load(block: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(block, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("a key of another kind")
    return key


def _of(
    certificate: x509.Certificate, loaded: Sequence[ec.EllipticCurvePrivateKey]
) -> ec.EllipticCurvePrivateKey | None:
    public = certificate.public_key()
    return next((k for k in loaded if k.public_key() == public), None)
