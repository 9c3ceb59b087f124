"""Certificates of the pods: who holds one, how it is signed, when a new one is due. Pure.

Each names its holder by one URI, a SPIFFE ID (SPIFFE-ID and X509-SVID of the SPIFFE project), by which others admit it,
and by the DNS names under which others call it, if they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from domicile.api.spiffe import spiffe_id
from domicile.controllers.pki.authority import BACKDATED, LEAF, Authorities, bundle, pem, signer

CERTIFICATE, KEY, BUNDLE, PAIR = "tls.crt", "tls.key", "ca.crt", "identity.pem"
"""Keys of a holder's Secret: certificate, its key, authorities to trust, and both of the first two in one."""

Leaf = Mapping[str, bytes]
"""A holder's Secret: PEM by those keys."""


@dataclass(frozen=True)
class Holder:
    """Pods of one service account, and the Secret ``secret`` of their namespace.

    ``names``: DNS names under which others call them; without any they only call.
    """

    namespace: str
    account: str
    secret: str
    names: tuple[str, ...] = ()
    calls: bool = True

    @property
    def id(self) -> str:
        """The SPIFFE ID."""
        return spiffe_id(self.namespace, self.account)


def issue(authorities: Authorities, holder: Holder, now: datetime) -> Leaf:
    """A new key and its certificate, by who signs at ``now``. Raises ValueError where nobody does."""
    authority = signer(authorities, now)
    if authority is None or authority.key is None:
        raise ValueError("no authority signs; tend them first")
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATED, authority.certificate.not_valid_before_utc))
        .not_valid_after(min(now + LEAF, authority.ends))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(_usages(holder)), critical=False)
        # RFC 5280, 4.2.1.6: critical where there is no subject.
        .add_extension(_names(holder), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    text = certificate.public_bytes(serialization.Encoding.PEM)
    return {CERTIFICATE: text, KEY: pem(key), BUNDLE: bundle(authorities), PAIR: pem(key) + text}


def _usages(holder: Holder) -> list[x509.ObjectIdentifier]:
    serves, calls = [ExtendedKeyUsageOID.SERVER_AUTH], [ExtendedKeyUsageOID.CLIENT_AUTH]
    return (serves if holder.names else []) + (calls if holder.calls else [])


def _names(holder: Holder) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(holder.id), *(x509.DNSName(n) for n in holder.names)]
    )


def kept(leaf: Leaf, holder: Holder, authorities: Authorities, now: datetime) -> Leaf | None:
    """The leaf, with the bundle of now; None where it needs to be issued anew: it is broken, not the holder's, signed
    by nobody in the bundle, or a third of its life or less is left.
    """
    try:
        certificate = x509.load_pem_x509_certificate(leaf[CERTIFICATE])
        key = serialization.load_pem_private_key(leaf[KEY], None)
        found = certificate.extensions
        names = found.get_extension_for_class(x509.SubjectAlternativeName).value
        usages = found.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (KeyError, ValueError, TypeError, x509.ExtensionNotFound):
        return None
    whole = leaf.get(PAIR) == leaf[KEY] + leaf[CERTIFICATE] and key.public_key() == certificate.public_key()
    own = names == _names(holder) and usages == x509.ExtendedKeyUsage(_usages(holder))
    issued = any(_issued(certificate, a.certificate) for a in authorities)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    fresh = start <= now < end - (end - start) / 3
    return {**leaf, BUNDLE: bundle(authorities)} if whole and own and issued and fresh else None


def _issued(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def until(leaf: Leaf) -> datetime:
    """When it ends (UTC). Raises ValueError where it is no leaf."""
    return x509.load_pem_x509_certificate(leaf[CERTIFICATE]).not_valid_after_utc
