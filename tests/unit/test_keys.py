"""Tenant keys: who can open what, and what a crash or a lost answer leaves behind."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.backup.errors import WrongKeyError
from domicile.backup.keys import (
    KeyUnavailableError,
    LocalFileKeys,
    TenantKey,
    generate,
    mint_tenant_key,
    open_tenant_key,
)
from domicile.backup.stores.base import NotFoundError, UnavailableError
from tests.memory_bucket import MemoryBucket

TENANT = "0123456789abcdef0123456789abcdef"


class Sites:
    """Two sites as they are: each has both public keys and its own private key only."""

    def __init__(self, folder: Path) -> None:
        for name, other in (("one", "two"), ("two", "one")):
            public, _ = generate(name, folder / name)
            (folder / other).mkdir(exist_ok=True)
            (folder / other / public.name).write_bytes(public.read_bytes())
        self.one, self.two = LocalFileKeys(folder / "one"), LocalFileKeys(folder / "two")
        self.fresh_buckets()

    def fresh_buckets(self) -> None:
        self.one_keys, self.two_keys = MemoryBucket("one", "one-keys"), MemoryBucket("two", "two-keys")

    def mint(self) -> str:
        return mint_tenant_key(self.one, TENANT, "eu", "one", self.one_keys, "two", self.two_keys)

    def both(self, key_id: str | None = None) -> tuple[TenantKey, TenantKey]:
        return (
            open_tenant_key(self.one, "one", self.one_keys, TENANT, "eu", key_id=key_id),
            open_tenant_key(self.two, "two", self.two_keys, TENANT, "eu", key_id=key_id),
        )


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path)


@pytest.fixture(scope="module")
def reused_sites(tmp_path_factory: pytest.TempPathFactory) -> Sites:
    return Sites(tmp_path_factory.mktemp("keys"))


def test_generate_writes_a_private_file_for_the_owner_only(tmp_path: Path) -> None:
    public, private = generate("one", tmp_path / "new")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"one.public.json", "one.private.json"}
    assert "HpkePublicKey" in public.read_text()
    assert "HpkePrivateKey" not in public.read_text()


def test_generate_never_overwrites_and_finishes_a_half_made_pair(tmp_path: Path) -> None:
    public, private = generate("one", tmp_path)
    before = private.read_bytes()
    with pytest.raises(FileExistsError, match="never overwritten"):
        generate("one", tmp_path)
    whole = json.loads(public.read_text())
    public.unlink()
    generate("one", tmp_path)
    assert json.loads(public.read_text()) == whole
    assert private.read_bytes() == before


@pytest.mark.parametrize("name", ["", "../one", "One", "a/b", "-a", "a-", "a.b"])
def test_names_that_are_no_dns_labels_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a key's name"):
        generate(name, tmp_path)
    with pytest.raises(ValueError, match="not a key's name"):
        LocalFileKeys(tmp_path).encrypt(name, b"", b"")


def test_a_site_opens_its_own_wrap_only(sites: Sites) -> None:
    for_two = sites.one.encrypt("two", b"secret", b"context")
    assert sites.two.decrypt("two", for_two, b"context") == b"secret"
    with pytest.raises(KeyUnavailableError, match=r"two\.private\.json"):
        sites.one.decrypt("two", for_two, b"context")
    with pytest.raises(WrongKeyError):
        sites.one.decrypt("one", for_two, b"context")
    with pytest.raises(WrongKeyError):
        sites.two.decrypt("two", for_two, b"another context")
    with pytest.raises(WrongKeyError):
        sites.two.decrypt("two", for_two[:-1] + bytes([for_two[-1] ^ 1]), b"context")
    with pytest.raises(WrongKeyError):
        sites.two.decrypt("two", b"", b"context")


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"primaryKeyId": 1}'])
def test_broken_key_files_are_unavailable_keys(tmp_path: Path, content: str) -> None:
    for part in ("public", "private"):
        (tmp_path / f"one.{part}.json").write_text(content)
    keys = LocalFileKeys(tmp_path)
    with pytest.raises(KeyUnavailableError):
        keys.encrypt("one", b"x", b"")
    with pytest.raises(KeyUnavailableError):
        keys.decrypt("one", b"x", b"")


def test_a_private_keyset_in_the_place_of_a_public_one_is_refused(tmp_path: Path) -> None:
    public, private = generate("one", tmp_path)
    public.write_bytes(private.read_bytes())
    with pytest.raises(KeyUnavailableError, match="not a public"):
        LocalFileKeys(tmp_path).encrypt("one", b"x", b"")


def test_both_sites_open_the_same_key_and_its_secret_stays_out_of_repr(sites: Sites) -> None:
    key_id = sites.mint()
    one, two = sites.both()
    assert one == two
    assert (one.key_id, len(one.secret)) == (key_id, 32)
    assert one.secret.hex() not in repr(one)
    assert repr(one.secret) not in repr(one)
    [wrap] = sites.one_keys.objects
    assert wrap == f"wraps/{TENANT}/{key_id}"
    assert all(
        one.secret not in data for _, data in [*sites.one_keys.objects.values(), *sites.two_keys.objects.values()]
    )


def test_minting_again_changes_nothing(sites: Sites) -> None:
    key_id = sites.mint()
    before = (dict(sites.one_keys.objects), dict(sites.two_keys.objects))
    assert sites.mint() == key_id
    assert (sites.one_keys.objects, sites.two_keys.objects) == before


def test_a_zone_of_one_site_needs_no_peer(sites: Sites) -> None:
    key_id = mint_tenant_key(sites.one, TENANT, "eu", "one", sites.one_keys)
    assert open_tenant_key(sites.one, "one", sites.one_keys, TENANT, "eu").key_id == key_id
    assert not sites.two_keys.objects
    assert sites.mint() == key_id
    one, two = sites.both()
    assert one == two


def test_a_wrap_is_bound_to_tenant_zone_and_key_id(sites: Sites) -> None:
    key_id = sites.mint()
    with pytest.raises(WrongKeyError):
        open_tenant_key(sites.one, "one", sites.one_keys, TENANT, "us")
    wrap = sites.one_keys.read(f"wraps/{TENANT}/{key_id}")
    other = "f" * 32
    sites.one_keys.create(f"wraps/{other}/{key_id}", wrap)
    with pytest.raises(WrongKeyError):
        open_tenant_key(sites.one, "one", sites.one_keys, other, "eu")
    sites.one_keys.create(f"wraps/{TENANT}/0000000002-x", wrap)
    with pytest.raises(WrongKeyError):
        open_tenant_key(sites.one, "one", sites.one_keys, TENANT, "eu", key_id="0000000002-x")
    assert open_tenant_key(sites.one, "one", sites.one_keys, TENANT, "eu", key_id=key_id).key_id == key_id


def test_no_wrap_is_not_found(sites: Sites) -> None:
    with pytest.raises(NotFoundError, match="no wrapped key"):
        open_tenant_key(sites.one, "one", sites.one_keys, TENANT, "eu")
    with pytest.raises(NotFoundError, match="no wrapped key 7"):
        open_tenant_key(sites.one, "one", sites.one_keys, TENANT, "eu", key_id="7")


def test_a_missing_peer_key_leaves_the_own_wrap_and_is_made_up_for(sites: Sites, tmp_path: Path) -> None:
    public = tmp_path / "one" / "two.public.json"
    content = public.read_bytes()
    public.unlink()
    with pytest.raises(KeyUnavailableError, match=r"two\.public\.json"):
        sites.mint()
    first = open_tenant_key(sites.one, "one", sites.one_keys, TENANT, "eu")
    public.write_bytes(content)
    assert sites.mint() == first.key_id
    assert sites.both() == (first, first)


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
    reused_sites: Sites, faults: list[tuple[str, str, str, int]]
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
    sites.one_keys.before = sites.one_keys.after = sites.two_keys.before = sites.two_keys.after = lambda *_: None
    one, two = sites.both()
    assert one == two
    assert one.key_id == key_id == sites.mint()
    assert len(sites.one_keys.objects) == len(sites.two_keys.objects) == 1


def test_two_minters_at_once_agree_on_the_newest_key(sites: Sites) -> None:
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
