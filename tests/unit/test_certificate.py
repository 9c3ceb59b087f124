"""A front door's certificate: every fault is named, and browsers' rules are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domicile.controllers.tenant.certificate import look_at
from domicile.controllers.tenant.view import Certificate

NOW = datetime(2026, 1, 2, tzinfo=UTC)
UNTIL = NOW + timedelta(days=30)
KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def pem(*names: str, since: datetime = NOW - timedelta(days=1), until: datetime = UNTIL) -> bytes:
    """A certificate of KEY; its common name is the host and must count for nothing."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(since)
        .not_valid_after(until)
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return made.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def key(of: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return of.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.mark.parametrize(
    ("names", "host"),
    [
        (("bank.example",), "bank.example"),
        (("other.example", "BANK.example"), "bank.example:8443"),
        (("*.bank.example",), "chat.bank.example"),
    ],
)
def test_a_good_one_counts_until_its_end(names: tuple[str, ...], host: str) -> None:
    assert look_at(pem(*names), key(), host, NOW) == Certificate(UNTIL)


@pytest.mark.parametrize(
    ("since", "until", "late"),
    [
        (-76, 14, False),
        (-76, 13, True),
        (-4, 3, False),
        (-5, 2, True),
    ],
    ids=["three months, in time", "three months, late", "a week, in time", "a week, late"],
)
def test_one_that_should_have_been_renewed_is_late(since: int, until: int, late: bool) -> None:
    made = pem("bank.example", since=NOW + timedelta(days=since), until=NOW + timedelta(days=until))
    assert look_at(made, key(), "bank.example", NOW) == Certificate(NOW + timedelta(days=until), late=late)


@pytest.mark.parametrize(
    ("chain", "own", "host", "reason"),
    [
        (b"", key(), "bank.example", "CertificateBroken"),
        (b"nonsense", key(), "bank.example", "CertificateBroken"),
        (pem("bank.example"), b"nonsense", "bank.example", "CertificateBroken"),
        (pem("bank.example"), key(OTHER), "bank.example", "CertificateBroken"),
        (pem(), key(), "bank.example", "CertificateForAnotherHost"),
        (pem("bank.example"), key(), "chat.bank.example", "CertificateForAnotherHost"),
        (pem("*.bank.example"), key(), "bank.example", "CertificateForAnotherHost"),
        (pem("*.bank.example"), key(), "a.b.bank.example", "CertificateForAnotherHost"),
        (pem("bank.example", until=NOW), key(), "bank.example", "CertificateExpired"),
        (pem("bank.example", since=NOW + timedelta(hours=1)), key(), "bank.example", "CertificateNotYetValid"),
    ],
)
def test_each_fault_is_named(chain: bytes, own: bytes, host: str, reason: str) -> None:
    fault = look_at(chain, own, host, NOW).fault
    assert fault is not None
    assert fault[0] == reason


def test_a_chain_is_judged_by_its_first_certificate() -> None:
    assert look_at(pem("bank.example") + pem("ca.example"), key(), "bank.example", NOW).fault is None
    assert look_at(pem("ca.example") + pem("bank.example"), key(), "bank.example", NOW).fault is not None
