"""What is wrong with a front door's certificate, if anything. Pure.

Names are compared as browsers do (RFC 6125): the subject alternative names alone, a wildcard for one label.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from domicile.controllers.tenant.view import Certificate

# What lives for long is renewed two weeks ahead, what lives for days when a third of its life is left.
_EARLY = timedelta(days=14)
_SHARE = 3


def look_at(chain: bytes, key: bytes, host: str, now: datetime) -> Certificate:
    """Judge ``tls.crt`` and ``tls.key`` (PEM) for a host, with or without a port, at a moment (UTC)."""
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        own = serialization.load_pem_private_key(key, None).public_key()
        names = _names(leaf)
        same = _public(own) == _public(leaf.public_key())
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm):
        return Certificate(
            None, ("CertificateBroken", "tls.crt and tls.key can't be read as a certificate and its key")
        )
    name = host.partition(":")[0]
    until = leaf.not_valid_after_utc
    if not same:
        return Certificate(until, ("CertificateBroken", "tls.key is not the key of tls.crt"))
    if not any(n == name or (n.startswith("*.") and n[2:] == name.partition(".")[2]) for n in names):
        listed = ", ".join(sorted(names)) or "none"
        return Certificate(until, ("CertificateForAnotherHost", f"tls.crt is not for {name} (it names: {listed})"))
    if now < leaf.not_valid_before_utc:
        return Certificate(until, ("CertificateNotYetValid", "tls.crt is not valid yet"))
    if now >= until:
        return Certificate(until, ("CertificateExpired", "tls.crt has expired"))
    return Certificate(until, late=until - now < min(_EARLY, (until - leaf.not_valid_before_utc) / _SHARE))


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [n.lower() for n in found.value.get_values_for_type(x509.DNSName)]


def _public(key: object) -> bytes:
    if not hasattr(key, "public_bytes"):
        raise TypeError("no public key")
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded
