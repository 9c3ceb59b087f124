"""The pods' certificates: whatever happens when, everybody who holds one that counts trusts everybody else's."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.api.spiffe import account_of, spiffe_id
from domicile.controllers.pki import authority, leaf
from domicile.controllers.pki.authority import KNOWN, LEAF, LIFE, ROTATION, SLACK, Authorities, BrokenError
from domicile.controllers.pki.leaf import Holder, Leaf

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOLDERS = tuple(Holder(f"t{n}", "helpdesk", "helpdesk-pods-tls", (f"helpdesk.t{n}.svc",)) for n in range(3))
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def trusts(held: Leaf, other: Leaf, now: datetime) -> bool:
    """Whether who has ``held`` takes ``other`` for a client's certificate, as another library judges (RFC 5280)."""
    roots = x509.load_pem_x509_certificates(held["ca.crt"])
    verifier = PolicyBuilder().store(Store(roots)).time(now).build_client_verifier()
    try:
        verifier.verify(x509.load_pem_x509_certificate(other["tls.crt"]), [])
    except VerificationError:
        return False
    return True


@dataclass
class Pod:
    """A holder, and what it has of its Secret: of now, or what that was when the kubelet last looked."""

    holder: Holder
    secret: Leaf = field(default_factory=dict)
    mounted: Leaf = field(default_factory=dict)

    def counts(self, now: datetime) -> bool:
        return bool(self.mounted) and now < leaf.until(self.mounted)


@dataclass
class Installation:
    now: datetime = START
    authorities: Authorities = ()
    pods: list[Pod] = field(default_factory=lambda: [Pod(h) for h in HOLDERS])

    def look(self, numbers: set[int]) -> None:
        """The operator tends the authorities, and the leaves of some."""
        self.authorities = authority.tend(self.authorities, self.now)
        for number in numbers:
            pod = self.pods[number]
            held = leaf.kept(pod.secret, pod.holder, self.authorities, self.now)
            pod.secret = held if held is not None else leaf.issue(self.authorities, pod.holder, self.now)

    def judge(self) -> None:
        for one in self.pods:
            for other in self.pods:
                if one.counts(self.now) and other.counts(self.now):
                    assert trusts(one.mounted, other.mounted, self.now)

    def sync(self, numbers: set[int]) -> None:
        for number in numbers:
            self.pods[number].mounted = self.pods[number].secret
            self.judge()


some = st.sets(st.sampled_from(range(len(HOLDERS))))
steps = st.lists(
    st.tuples(
        st.one_of(
            st.timedeltas(MINUTE, 12 * DAY),
            st.sampled_from([2 * SLACK, LEAF - SLACK, KNOWN, ROTATION - LEAF, LIFE - LEAF]),
        ),
        some,
        some,
        some,
    ),
    min_size=3,
    max_size=16,
)


@settings(max_examples=25, deadline=None)
@given(st.timedeltas(MINUTE, LEAF), steps)
def test_whoever_holds_a_certificate_that_counts_trusts_everybody_elses(before: timedelta, script: list[tuple]) -> None:
    world = Installation()
    world.look(set())
    # Most happens around a rotation.
    world.now += ROTATION - before
    world.look({0, 1, 2})
    world.sync({0, 1, 2})
    for pause, early, looked, late in script:
        world.now += pause
        world.judge()
        world.look(looked)
        # Some pods see their Secrets change before others, some minutes later, some not before the next step.
        world.sync(early)
        world.now += 3 * MINUTE
        world.judge()
        world.sync(late)
        assert len(world.authorities) <= 3
        signs = authority.signer(world.authorities, world.now)
        assert signs is not None
        assert [a for a in world.authorities if a.made < signs.made and a.key is not None] == []


def test_years_of_an_operator_that_looks_now_and_then_never_leave_anybody_without() -> None:
    world = Installation()
    signers, changes, least = set(), 0, LEAF
    for _ in range(3 * 73):
        before = world.authorities
        world.look({0, 1, 2})
        changes += world.authorities != before
        world.sync({0, 1, 2})
        signer = authority.signer(world.authorities, world.now)
        assert signer is not None
        signers.add(signer.certificate.serial_number)
        least = min(least, *(leaf.until(p.mounted) - world.now for p in world.pods))
        world.now += 5 * DAY
    assert len(signers) == 3
    # Made, successor made, successor signs, gone: twice, and the third has just been made.
    assert changes == 7
    assert least > LEAF / 6


def test_an_authority_signs_when_every_leaf_that_counts_came_with_it_and_leaves_after_its_last() -> None:
    first = authority.tend((), START)
    assert [a.key is not None for a in first] == [True]
    assert authority.signer(first, START) == first[0]
    assert authority.tend(first, START + ROTATION - MINUTE) == first
    rotated = START + ROTATION
    both = authority.tend(first, rotated)
    assert authority.signer(both, rotated + KNOWN - MINUTE) == both[0]
    assert authority.tend(both, rotated + KNOWN - MINUTE) == both
    silent = authority.tend(both, rotated + KNOWN)
    assert [a.key is not None for a in silent] == [False, True]
    last = leaf.issue(both, HOLDERS[0], rotated + KNOWN - MINUTE)
    assert authority.tend(silent, leaf.until(last)) == silent
    assert authority.tend(silent, rotated + KNOWN + LEAF + SLACK) == silent[1:]


def test_after_an_absence_in_which_all_ended_a_new_authority_signs_at_once() -> None:
    old = authority.tend((), START)
    now = START + LIFE
    new = authority.tend(old, now)
    assert len(new) == 1
    assert leaf.until(leaf.issue(new, HOLDERS[0], now)) == (now + LEAF).replace(microsecond=0)


def test_no_leaf_outlives_its_authority() -> None:
    old = authority.tend((), START)
    now = START + LIFE - DAY
    assert leaf.until(leaf.issue(old, HOLDERS[0], now)) == old[0].ends


def test_a_leaf_says_who_holds_it_and_nothing_else() -> None:
    held = leaf.issue(authority.tend((), START), Holder("bank", "helpdesk", "s", ("helpdesk.bank.svc",)), START)
    certificate = x509.load_pem_x509_certificate(held["tls.crt"])
    assert list(certificate.subject) == []
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://domicile/ns/bank/sa/helpdesk"]
    assert names.value.get_values_for_type(x509.DNSName) == ["helpdesk.bank.svc"]
    assert held["identity.pem"] == held["tls.key"] + held["tls.crt"]
    assert certificate.not_valid_after_utc - START == LEAF


@pytest.mark.parametrize(
    ("holder", "usages"),
    [
        (Holder("a", "b", "s", ("b.a.svc",)), {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}),
        (Holder("a", "b", "s"), {ExtendedKeyUsageOID.CLIENT_AUTH}),
        (Holder("a", "b", "s", ("b.a.svc",), calls=False), {ExtendedKeyUsageOID.SERVER_AUTH}),
    ],
)
def test_who_only_calls_can_not_serve_and_who_only_serves_can_not_call(
    holder: Holder, usages: set[x509.ObjectIdentifier]
) -> None:
    certificate = x509.load_pem_x509_certificate(leaf.issue(authority.tend((), START), holder, START)["tls.crt"])
    assert set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == usages


def test_a_leaf_can_sign_nothing() -> None:
    authorities = authority.tend((), START)
    held = leaf.issue(authorities, HOLDERS[0], START)
    key = serialization.load_pem_private_key(held["tls.key"], None)
    made = authority.Authority(x509.load_pem_x509_certificate(held["tls.crt"]), key)  # type: ignore[arg-type]
    forged = leaf.issue((made,), HOLDERS[1], START)
    assert not trusts(held, {**forged, "tls.crt": forged["tls.crt"]}, START + MINUTE)


def test_what_is_kept_has_the_bundle_of_now() -> None:
    first = authority.tend((), START)
    held = leaf.issue(first, HOLDERS[0], START)
    both = authority.tend(first, START + ROTATION)
    assert leaf.kept(held, HOLDERS[0], both, START + DAY) == {**held, "ca.crt": authority.bundle(both)}


@pytest.mark.parametrize(
    ("what", "changes", "after"),
    [
        ("a third of its life is left", {}, timedelta(days=20)),
        ("it is not valid yet", {}, -DAY),
        ("the key is another's", {"tls.key": "tls.key"}, MINUTE),
        ("the pair is another's", {"identity.pem": "identity.pem"}, MINUTE),
        ("the certificate is another holder's", dict.fromkeys(("tls.crt", "tls.key", "identity.pem"), "all"), MINUTE),
        ("the certificate is no certificate", {"tls.crt": ""}, MINUTE),
        ("there is none", {"tls.crt": None}, MINUTE),
    ],
)
def test_a_leaf_is_issued_anew_where(what: str, changes: dict[str, str | None], after: timedelta) -> None:
    authorities = authority.tend((), START)
    held, other = (dict(leaf.issue(authorities, h, START)) for h in HOLDERS[:2])
    assert leaf.kept(held, HOLDERS[0], authorities, START + MINUTE) == held
    for name, source in changes.items():
        if source is None:
            del held[name]
        else:
            held[name] = other[name] if source else b"nothing"
    assert leaf.kept(held, HOLDERS[0], authorities, START + after) is None, what


def test_a_leaf_of_an_authority_that_is_gone_is_issued_anew() -> None:
    held = leaf.issue(authority.tend((), START), HOLDERS[0], START)
    assert leaf.kept(held, HOLDERS[0], authority.tend((), START), START + MINUTE) is None


def test_authorities_are_read_as_they_were_written() -> None:
    first = authority.tend((), START)
    both = authority.tend(authority.tend(first, START + ROTATION), START + ROTATION + KNOWN)
    assert [a.key is None for a in both] == [True, False]
    read = authority.parse(authority.bundle(both), authority.keys(both))
    assert [(a.certificate, a.key is None) for a in read] == [(a.certificate, a.key is None) for a in both]
    assert authority.keys(read) == authority.keys(both)
    assert authority.tend(read, START + ROTATION + KNOWN) == read


@pytest.mark.parametrize("what", ["no certificates", "no keys", "foreign key"])
def test_what_is_no_set_of_authorities_is_refused_without_being_quoted(what: str) -> None:
    good, other = authority.tend((), START), authority.tend((), START)
    certificates = b"x" if what == "no certificates" else authority.bundle(good)
    secret = {"no keys": b"hidden", "foreign key": authority.keys(other)}.get(what, authority.keys(good))
    with pytest.raises(BrokenError) as raised:
        authority.parse(certificates, secret)
    assert "hidden" not in str(raised.value)


@given(st.text(max_size=60) | st.from_regex(r"spiffe://domicile/ns/[a-z-]{1,4}/sa/[a-z./\n%]{1,5}", fullmatch=True))
def test_only_ids_name_accounts(text: str) -> None:
    found = account_of(text)
    assert found is None or spiffe_id(*found) == text


@pytest.mark.parametrize(
    "text",
    ["spiffe://domicile/ns/a/sa/b/", "spiffe://domicile/ns/a/sa/b\n", "spiffe://other/ns/a/sa/b", "spiffe://domicile/ns/a/b/sa/c",
     "SPIFFE://domicile/ns/a/sa/b", "spiffe://domicile/ns/a/sa/", "spiffe://domicile/ns//sa/b", "https://domicile/ns/a/sa/b"],
)  # fmt: skip
def test_what_looks_like_an_id_names_nobody(text: str) -> None:
    assert account_of(text) is None
    assert account_of(spiffe_id("bank", "front-door")) == ("bank", "front-door")
