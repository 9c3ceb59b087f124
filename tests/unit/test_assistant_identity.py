"""Who asks the reference assistant: every way to pass for somebody, and every way round the paths."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.assistant.access import ForbiddenError, authorise
from examples.assistant.identity import Identity, IdentityError, identify, verify
from examples.assistant.paths import is_below, segments
from examples.assistant.settings import Settings, SettingsError
from examples.assistant.trust import TrustError, TrustFile, parse
from tests.identities import (
    ATTACKS,
    ISSUER,
    claims,
    document,
    ec_jwk,
    ec_token,
    jwk,
    rsa_key,
    segment,
    sign,
    signed,
    token,
)

TRUST = parse(json.dumps(document()).encode())
PUBLIC = ("forms", "public")


def _quotes(message: str, secret: str) -> bool:
    return any(part and part in message for part in secret.split("."))


def test_a_good_token_names_the_person_and_the_roles() -> None:
    good = claims("admin", "assistant.helpdesk")
    found = identify([sign(good)], TRUST)
    assert found == Identity(ISSUER, good["sub"], frozenset({"admin", "assistant.helpdesk"}), good["exp"])
    assert found.person == f"{ISSUER}#{good['sub']}"
    assert verify(token(aud=["front-door"]), TRUST).roles == {"member"}
    assert verify(token(exp=claims()["iat"] - 25), TRUST).roles == {"member"}
    assert verify(token(left_out=("roles",)), TRUST).roles == frozenset()
    assert identify([], TRUST) is None


def test_an_elliptic_key_counts_with_its_own_algorithm_only() -> None:
    trust = parse(json.dumps(document(jwks={"keys": [jwk("first"), ec_jwk("curve")]})).encode())
    assert verify(ec_token("curve"), trust).roles == {"member"}
    with pytest.raises(IdentityError, match="algorithm"):
        verify(signed(claims(), {"alg": "RS256", "kid": "curve"}, rsa_key("first")), trust)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_passes_and_none_is_quoted(attack: str) -> None:
    bad = ATTACKS[attack]()
    with pytest.raises(IdentityError) as refused:
        identify([bad], TRUST)
    assert refused.value.code == ("session_ended" if attack == "expired" else "bad_identity")
    assert not _quotes(str(refused.value), bad)


def test_bytes_that_are_no_text_are_refused() -> None:
    # As a server hands on what it can't decode.
    with pytest.raises(IdentityError):
        identify([token() + b"\xff".decode(errors="surrogateescape")], TRUST)


def test_several_identities_are_none() -> None:
    good = token()
    for values in ([good, good], ["", good], [good, ""]):
        with pytest.raises(IdentityError, match="more than one"):
            identify(values, TRUST)


_BYTES = st.binary(max_size=60).map(segment)
_VALUES = st.one_of(
    st.text(max_size=200),
    st.text(string.printable + "\x00\udcff\xff", max_size=400),
    st.tuples(_BYTES, _BYTES, _BYTES).map(".".join),
    st.dictionaries(
        st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.text(max_size=9)
            | st.sampled_from(["RS256", "none", "first"]),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=4,
        ),
    ).map(lambda header: signed(claims("owner"), header, b"guess")),
)


@given(_VALUES)
def test_what_nobody_signed_names_nobody(value: str) -> None:
    with pytest.raises(IdentityError):
        verify(value, TRUST)


@given(st.data())
def test_a_changed_token_is_refused(data: st.DataObject) -> None:
    good = token()
    place = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_.=, "))
    changed = good[:place] + other + good[place + 1 :]
    if changed == good:
        assert verify(changed, TRUST).roles == {"member"}
    else:
        with pytest.raises(IdentityError):
            verify(changed, TRUST)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["iss", "aud", "azp", "sub", "exp", "nbf", "iat", "acr", "roles"]), _JSON))
def test_no_odd_claim_breaks_the_check(odd: dict[str, Any]) -> None:
    try:
        found = verify(sign(claims() | odd), TRUST)
    except IdentityError:
        return
    assert isinstance(found.subject, str)
    assert found.subject
    assert odd.get("acr", "mfa") == "mfa"
    assert abs(found.expires - claims()["iat"]) <= 3600


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"issuer": ""}, "issuer"),
        ({"audience": ["front-door"]}, "audience"),
        ({"acr": None}, "acr"),
        ({"jwks": []}, "jwks.keys must be a list"),
        ({"jwks": {"keys": []}}, "no key"),
        ({"jwks": {"keys": [{**jwk("first"), "use": "enc"}, {**jwk("first"), "alg": "RSA-OAEP"}, 7]}}, "no key"),
        ({"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "x", "alg": "HS256"}]}}, "no key"),
        ({"jwks": {"keys": [jwk("first"), jwk("first")]}}, "kid of its own"),
        ({"jwks": {"keys": [{**jwk("first"), "kid": None}]}}, "kid of its own"),
        ({"jwks": {"keys": [{**jwk("first"), "n": "!"}]}}, "broken"),
        ({"jwks": {"keys": [{**ec_jwk("curve"), "x": "AAAA"}]}}, "broken"),
        ({"jwks": {"keys": [jwk("short")]}}, "2048 bits"),
        ({"public": "/forms/"}, "public must be a list"),
        ({"public": ["/forms/public"]}, "begins and ends with /"),
        ({"public": ["/forms/../"]}, "begins and ends with /"),
        ({"public": [7]}, "begins and ends with /"),
    ],
)
def test_a_broken_file_says_what_is_wrong(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(TrustError, match=said):
        parse(json.dumps(document(**changed)).encode())


@given(st.binary(max_size=100) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_no_other_file_is_taken_for_one(data: bytes) -> None:
    with pytest.raises(TrustError):
        parse(data)


def test_a_private_key_in_the_file_is_not_used() -> None:
    private = {**jwk("first"), "d": "AQAB", "p": "AQAB", "q": "AQAB"}
    assert verify(token(), parse(json.dumps(document(jwks={"keys": [private]})).encode())).roles == {"member"}


def test_the_file_is_read_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    file = TrustFile(path)
    for content in (None, b"", b"{", b" " * 300_000):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(TrustError):
            file.read()
    path.write_text(json.dumps(document()))
    trust = file.read()
    assert file.read() is trust
    path.write_text(json.dumps(document("second")))
    assert set(file.read().keys) == {"second"}
    path.unlink()
    with pytest.raises(TrustError, match="No such file"):
        file.read()


@pytest.mark.parametrize(
    "target",
    [
        "/forms/public",
        "/forms/public/",
        "/forms/public/a.css",
        "/forms/public/a/b?next=/../api",
        "/forms/%70ublic/a%20b",
    ],
)
def test_what_lies_below_a_prefix(target: str) -> None:
    assert is_below(target, PUBLIC)


@pytest.mark.parametrize(
    "target",
    [
        "/forms/publicity/",
        "/forms/Public/a",
        "/api/chat?x=/forms/public/",
        "/forms/public/../../api/chat",
        "/forms/public/..",
        "/forms/public/./../../api",
        "/forms/public/%2e%2e/%2e%2e/api/chat",
        "/forms/public/.%2E/.%2e/api/chat",
        "/forms/public/..%2f..%2fapi",
        "/forms/public/%252e%252e/%252e%252e/api",
        "/forms/public/..;/..;/api",
        "/forms/public/..\\..\\api",
        "/forms/public/..%5c..%5capi",
        "/forms/public/%c0%ae%c0%ae/api",
        "/forms/public/%ef%bc%8e%ef%bc%8e/api",
        "/forms/public/a%00",
        "/forms/public/a%0a",
        "/forms/public/a#b",
        "/forms/public/ü",
        "/forms//public/a",
        "//forms/public/a",
        "forms/public/a",
        "http://x/forms/public/a",
        "*",
        "",
    ],
)
def test_what_does_not(target: str) -> None:
    assert not is_below(target, PUBLIC)


@given(
    st.lists(st.sampled_from(["forms", "public", "api", "..", ".", "", "%2e%2e", "%2f", "a", "%61", ";"]), max_size=7)
)
def test_a_plain_path_stays_where_it_seems_however_it_is_resolved(parts: list[str]) -> None:
    found = segments("/" + "/".join(parts))
    if found is None:
        return
    assert ".." not in found
    assert segments("/" + "/".join(found)) == found
    resolved: list[str] = []
    for part in parts:
        if part == "..":
            resolved = resolved[:-1]
        elif part != ".":
            resolved.append(part.replace("%61", "a"))
    assert tuple(resolved) == found or (not parts and found == ("",))


def _person(*roles: str) -> Identity:
    return Identity(ISSUER, "s", frozenset(roles), 2**31)


@pytest.mark.parametrize("role", ["owner", "admin", "member", "assistant.helpdesk"])
def test_each_of_these_roles_may_use_the_assistant(role: str) -> None:
    authorise(_person(role), "/api/chat", "/api/chat", (PUBLIC,), "helpdesk")


@pytest.mark.parametrize("roles", [(), ("manager",), ("assistant.sales",), ("Owner",), ("assistant.",), ("helpdesk",)])
def test_no_other_role_may(roles: tuple[str, ...]) -> None:
    with pytest.raises(ForbiddenError, match="may not use"):
        authorise(_person(*roles), "/api/chat", "/api/chat", (PUBLIC,), "helpdesk")
    authorise(_person(*roles), "/forms/public/a", "", (PUBLIC,), "helpdesk")


@pytest.mark.parametrize("public", [(), (PUBLIC,), ((),), (("admin",),)])
def test_only_owner_and_admin_administer_whatever_is_public(public: tuple[tuple[str, ...], ...]) -> None:
    target = "/admin/conversations"
    for role in ("owner", "admin"):
        authorise(_person(role), target, target, public, "helpdesk")
    for roles in ((), ("manager", "assistant.helpdesk"), ("member",)):
        with pytest.raises(ForbiddenError, match="owner and admin"):
            authorise(_person(*roles), target, target, public, "helpdesk")
    with pytest.raises(IdentityError) as refused:
        authorise(None, target, target, public, "helpdesk")
    assert refused.value.code == "no_identity"


def test_nobody_is_let_in_but_below_public_prefixes() -> None:
    authorise(None, "/forms/public/a", "", (PUBLIC,), "helpdesk")
    for target in ("/", "/api/chat", "/forms/public/../../api/chat", "/nowhere"):
        with pytest.raises(IdentityError, match="Log in"):
            authorise(None, target, "", (PUBLIC,), "helpdesk")


def test_the_setting_is_a_path_or_absent() -> None:
    env = {"ASSISTANT_STORE_URL": "gs://b", "ASSISTANT_BASE_URL": "http://x", "ASSISTANT_MODEL": "m"}
    assert Settings.from_env(env).identity is None
    assert Settings.from_env(env | {"ASSISTANT_IDENTITY": "/i"}).identity == Path("/i")
    with pytest.raises(SettingsError, match="ASSISTANT_IDENTITY"):
        Settings.from_env(env | {"ASSISTANT_IDENTITY": ""})
