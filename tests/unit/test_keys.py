"""Tenant keys: who can open what, and what a crash or a lost answer leaves behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.backup import keys
from domicile.backup.errors import WrongKeyError
from domicile.backup.kek import KeyUnavailableError
from domicile.backup.keys import TenantKey, mint_tenant_key, open_tenant_key, store_wrap
from domicile.backup.stores.base import NotFoundError, UnavailableError
from tests.unit.key_sites import TENANT, KeySites


@pytest.fixture
def sites(tmp_path: Path) -> KeySites:
    return KeySites(tmp_path)


@pytest.fixture(scope="module")
def reused_sites(tmp_path_factory: pytest.TempPathFactory) -> KeySites:
    return KeySites(tmp_path_factory.mktemp("keys"))


def test_both_sites_open_the_same_key_and_its_secret_stays_out_of_repr(sites: KeySites) -> None:
    key_id = sites.mint()
    one, two = sites.both()
    assert one == two
    assert (one.key_id, len(one.secret)) == (key_id, 32)
    assert one.secret.hex() not in repr(one)
    assert repr(one.secret) not in repr(one)
    [wrap] = keys.wraps(sites.one_keys, TENANT)
    assert wrap.name.startswith(f"wraps/{TENANT}/{key_id}/{sites.own('one').digest}-")
    assert keys.tenants(sites.two_keys) == [TENANT]
    assert all(
        one.secret not in data for _, data in [*sites.one_keys.objects.values(), *sites.two_keys.objects.values()]
    )


def test_what_kms_logs_holds_opaque_ids_only(sites: KeySites) -> None:
    seen: list[dict[str, str]] = []

    class Noting:
        digest = "0" * 16

        def encrypt(self, plaintext: bytes, context: dict[str, str]) -> bytes:
            seen.append(dict(context))
            return plaintext

    store_wrap(Noting(), sites.one_keys, TENANT, "customer-bank", TenantKey(f"{1:010d}-{'a' * 32}", bytes(32)))  # type: ignore[arg-type]
    [context] = seen
    patterns = {
        "format": "domicile-wrap-2",
        "keyId": "[0-9]{10}-[0-9a-f]{32}",
        "tenant": "[0-9a-f]{32}",
        "zone": "[0-9a-f]{16}",
    }
    assert context.keys() == patterns.keys()
    assert all(re.fullmatch(patterns[name], value) for name, value in context.items())


def test_minting_again_changes_nothing(sites: KeySites) -> None:
    key_id = sites.mint()
    before = (dict(sites.one_keys.objects), dict(sites.two_keys.objects))
    assert sites.mint() == key_id
    assert (sites.one_keys.objects, sites.two_keys.objects) == before


def test_a_zone_of_one_site_needs_no_peer(sites: KeySites) -> None:
    key_id = mint_tenant_key(sites.own("one"), sites.one_keys, TENANT, "eu")
    assert sites.open("one").key_id == key_id
    assert not sites.two_keys.objects
    assert sites.mint() == key_id
    one, two = sites.both()
    assert one == two
    with pytest.raises(ValueError, match="go together"):
        mint_tenant_key(sites.own("one"), sites.one_keys, TENANT, "eu", sites.peer_of("one"))


def test_a_wrap_is_bound_to_tenant_zone_and_key_id(sites: KeySites) -> None:
    key_id = sites.mint()
    own = sites.own("one")
    with pytest.raises(WrongKeyError):
        open_tenant_key(own, sites.one_keys, TENANT, "us")
    [wrap] = keys.wraps(sites.one_keys, TENANT)
    data, other = sites.one_keys.read(wrap.name), "f" * 32
    sites.one_keys.create(wrap.name.replace(TENANT, other), data)
    with pytest.raises(WrongKeyError):
        open_tenant_key(own, sites.one_keys, other, "eu")
    strange = f"{2:010d}-{key_id.split('-')[1]}"
    sites.one_keys.create(wrap.name.replace(key_id, strange), data)
    with pytest.raises(WrongKeyError):
        sites.open("one", strange)
    assert sites.open("one", key_id).key_id == key_id


def test_a_planted_wrap_cannot_pass_another_secret_off_as_the_key(sites: KeySites) -> None:
    key_id = sites.mint()
    true = sites.open("two")
    # Whoever may encrypt for a site can write such a wrap.
    planted = store_wrap(sites.peer_of("one"), sites.two_keys, TENANT, "eu", TenantKey(key_id, bytes(32)))
    assert sites.open("two") == true
    [good] = [w for w in keys.wraps(sites.two_keys, TENANT) if w != planted]
    sites.two_keys.delete(good.name)
    with pytest.raises(WrongKeyError, match="another secret"):
        sites.open("two")
    short = store_wrap(sites.peer_of("one"), sites.two_keys, TENANT, "eu", TenantKey(key_id, b"short"))
    with pytest.raises(WrongKeyError, match="another secret"):
        keys.open_wrap(sites.own("two"), sites.two_keys, TENANT, "eu", short)


def test_foreign_names_are_no_wraps(sites: KeySites) -> None:
    key_id = sites.mint()
    for name in (f"wraps/{TENANT}/9999999999", f"wraps/{TENANT}/{key_id}/x", f"wraps/{TENANT}x/{key_id}/{'a' * 16}-b"):
        sites.one_keys.create(name, b"?")
    assert keys.key_ids(sites.one_keys, TENANT) == [key_id]
    assert sites.open("one").key_id == key_id


def test_no_wrap_is_not_found(sites: KeySites) -> None:
    with pytest.raises(NotFoundError, match="no wrapped key"):
        sites.open("one")
    with pytest.raises(NotFoundError, match="no wrapped key 7"):
        sites.open("one", "7")


def test_a_missing_peer_key_leaves_the_own_wrap_and_is_made_up_for(sites: KeySites) -> None:
    public = sites.folder / "one" / "two.public.json"
    content = public.read_bytes()
    public.unlink()
    with pytest.raises(KeyUnavailableError, match=r"two\.public\.json"):
        sites.mint()
    first = sites.open("one")
    public.write_bytes(content)
    assert sites.mint() == first.key_id
    assert sites.both() == (first, first)


def test_a_peer_with_another_key_gets_a_wrap_for_it(sites: KeySites) -> None:
    sites.mint()
    before = sites.open("two")
    sites.add_key("two", "two-next")
    sites.replace_key("two", "two-next")
    with pytest.raises(KeyUnavailableError, match="previous"):
        sites.open("two")
    sites.mint()
    assert sites.open("two") == before
    assert len(keys.wraps(sites.two_keys, TENANT)) == 2


def test_of_two_keys_the_newest_counts_and_the_other_one_still_opens(sites: KeySites) -> None:
    old = sites.mint()
    before = sites.open("one")
    new = sites.mint_another()
    assert sites.both(old) == (before, before)
    one, two = sites.both()
    assert one == two
    assert one.key_id == new
    assert one.secret != before.secret


def test_a_wrap_that_is_retired_under_the_reader_is_looked_for_again(sites: KeySites) -> None:
    sites.mint()
    before = sites.open("one")
    [old] = keys.wraps(sites.one_keys, TENANT)

    def retire(operation: str, name: str) -> None:
        if operation == "read" and name == old.name and name in sites.one_keys.objects:
            store_wrap(sites.own("one"), sites.one_keys, TENANT, "eu", before)
            sites.one_keys.delete(name)

    sites.one_keys.before = retire
    assert sites.open("one") == before


@settings(max_examples=60, deadline=None)
@given(
    faults=st.lists(
        st.tuples(
            st.sampled_from(["own", "peer"]),
            st.sampled_from(["list", "create", "read"]),
            st.sampled_from(["request", "answer"]),
            st.integers(1, 2),
        ),
        max_size=4,
    )
)
def test_after_any_lost_requests_and_answers_one_key_is_open_to_both(
    reused_sites: KeySites, faults: list[tuple[str, str, str, int]]
) -> None:
    sites = reused_sites
    sites.fresh_buckets()
    for where, operation, lost, times in faults:
        (sites.one_keys if where == "own" else sites.two_keys).fail(operation, lost=lost, times=times)
    for _ in range(12):
        try:
            key_id = sites.mint()
            break
        except UnavailableError:
            continue
    else:
        pytest.fail("minting never ended")
    sites.calm()
    one, two = sites.both()
    assert one == two
    assert one.key_id == key_id == sites.mint()
    assert len(sites.one_keys.objects) == len(sites.two_keys.objects) == 1


def test_two_minters_at_once_agree_on_the_newest_key(sites: KeySites) -> None:
    rivals: list[str] = []

    def rival(operation: str, name: str) -> None:
        if operation == "create" and not rivals:
            rivals.append("running")
            rivals.append(sites.mint())

    sites.one_keys.before = rival
    key_id = sites.mint()
    one, two = sites.both()
    assert one == two
    assert one.key_id == key_id
    # The other key, which the rival may have used in the meantime, stays open to both by its id.
    assert len(set(sites.both(rivals[1]))) == 1
