"""Keys of sites: files, and which key a site may use for what."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from botocore.stub import Stubber

from domicile.api.zone import KeyRef
from domicile.backup.errors import WrongKeyError
from domicile.backup.kek import KeyRing, KeyUnavailableError, aws, generate, provider_for
from domicile.backup.kek.aws import AwsKmsKey
from domicile.backup.kek.local import LocalFileKey
from domicile.backup.residency import ResidencyError
from domicile.backup.stores.deadlines import Deadlines
from tests.unit.key_sites import KeySites, zone

CONTEXT = {"tenant": "a"}
ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
RESOURCE = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k"


@pytest.fixture
def sites(tmp_path: Path) -> KeySites:
    return KeySites(tmp_path)


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
        LocalFileKey(name, tmp_path)


def test_a_file_key_opens_what_was_made_for_it_in_its_context_only(sites: KeySites) -> None:
    for_two = LocalFileKey("two", sites.folder / "one").encrypt(b"secret", CONTEXT)
    two = LocalFileKey("two", sites.folder / "two")
    assert two.decrypt(for_two, CONTEXT) == b"secret"
    with pytest.raises(KeyUnavailableError, match=r"two\.private\.json"):
        LocalFileKey("two", sites.folder / "one").decrypt(for_two, CONTEXT)
    with pytest.raises(WrongKeyError):
        LocalFileKey("one", sites.folder / "one").decrypt(for_two, CONTEXT)
    with pytest.raises(WrongKeyError):
        two.decrypt(for_two, {"tenant": "b"})
    with pytest.raises(WrongKeyError):
        two.decrypt(for_two[:-1] + bytes([for_two[-1] ^ 1]), CONTEXT)
    with pytest.raises(WrongKeyError):
        two.decrypt(b"", CONTEXT)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"primaryKeyId": 1}'])
def test_broken_key_files_are_unavailable_keys(tmp_path: Path, content: str) -> None:
    for part in ("public", "private"):
        (tmp_path / f"one.{part}.json").write_text(content)
    key = LocalFileKey("one", tmp_path)
    with pytest.raises(KeyUnavailableError):
        key.encrypt(b"x", {})
    with pytest.raises(KeyUnavailableError):
        key.decrypt(b"x", {})


def test_a_private_keyset_in_the_place_of_a_public_one_is_refused(tmp_path: Path) -> None:
    public, private = generate("one", tmp_path)
    public.write_bytes(private.read_bytes())
    with pytest.raises(KeyUnavailableError, match="not a public"):
        LocalFileKey("one", tmp_path).encrypt(b"x", {})


def test_a_site_holds_nothing_to_decrypt_with_for_its_peer(sites: KeySites) -> None:
    # Even a cluster that was handed both private files gets no way to use the peer's.
    (sites.folder / "one" / "two.private.json").write_bytes((sites.folder / "two" / "two.private.json").read_bytes())
    peer = sites.peer_of("one")
    assert not hasattr(peer, "decrypt")
    wrapped = peer.encrypt(b"secret", CONTEXT)
    with pytest.raises(KeyUnavailableError, match="no longer names"):
        sites.own("one").decrypt(peer.digest, wrapped, CONTEXT)
    with pytest.raises(WrongKeyError):
        sites.own("one").decrypt(sites.own("one").digest, wrapped, CONTEXT)
    assert sites.own("two").decrypt(peer.digest, wrapped, CONTEXT) == b"secret"


def test_a_zone_of_one_site_has_no_peer(sites: KeySites) -> None:
    alone = sites.zone("one")
    alone = alone.model_copy(update={"spec": alone.spec.model_copy(update={"sites": alone.spec.sites[:1]})})
    assert sites.ring("one").peer(alone) is None


def test_a_previous_key_opens_and_encrypts_no_more(sites: KeySites) -> None:
    before = sites.own("one")
    wrapped = before.encrypt(b"secret", CONTEXT)
    sites.add_key("one", "next")
    sites.replace_key("one", "next", "one")
    after = sites.own("one")
    assert after.digest != before.digest
    assert after.decrypt(before.digest, wrapped, CONTEXT) == b"secret"
    with pytest.raises(WrongKeyError):
        before.decrypt(before.digest, after.encrypt(b"secret", CONTEXT), CONTEXT)
    sites.replace_key("one", "next")
    with pytest.raises(KeyUnavailableError, match=f"{before.digest}.*previous"):
        sites.own("one").decrypt(before.digest, wrapped, CONTEXT)


@pytest.mark.parametrize(
    ("site", "ref", "says"),
    [
        ("two", {"awsKms": {"arn": ARN.replace("eu-central-1", "us-east-1")}}, "lies in us-east-1"),
        ("two", {"awsKms": {"arn": ARN.replace("1234abcd-", "mrk-1234abcd")}}, "multi-region"),
        ("one", {"gcpKms": {"name": RESOURCE.replace("europe-west3", "us")}}, "lies in us;"),
        ("one", {"gcpKms": {"name": RESOURCE.replace("europe-west3", "global")}}, "lies in global"),
    ],
)
def test_a_kms_key_outside_the_sites_region_is_refused(tmp_path: Path, site: str, ref: dict, says: str) -> None:
    served = zone(site, **{site: ref})
    with pytest.raises(ResidencyError, match=says):
        KeyRing(tmp_path, tmp_path).own(served)
    other = served.model_copy(update={"site": "one" if site == "two" else "two"})
    with pytest.raises(ResidencyError, match=says):
        KeyRing(tmp_path, tmp_path).peer(other)
    with pytest.raises(ResidencyError, match=says):
        KeyRing(tmp_path, tmp_path).own(zone(site, **{site: {"name": site, "previous": [ref]}}))


@pytest.mark.parametrize(("site", "ref"), [("two", {"awsKms": {"arn": ARN}}), ("one", {"gcpKms": {"name": RESOURCE}})])
@pytest.mark.parametrize("content", ["{", "[]", '{"secretAccessKey": "hush"}', '{"private_key": "hush"}', '{"a": 1}'])
def test_malformed_credentials_are_said_and_not_quoted(tmp_path: Path, site: str, ref: dict, content: str) -> None:
    (tmp_path / f"{site}.json").write_text(content)
    with pytest.raises(KeyUnavailableError, match=rf"site {site}: .*{site}\.json") as refusal:
        KeyRing(tmp_path, tmp_path).own(zone(site, **{site: ref}))
    assert "hush" not in str(refusal.value)


def test_no_key_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailableError, match="names no key"):
        provider_for(KeyRef(), zone("one").own, tmp_path, tmp_path, Deadlines())


def test_digests_tell_keys_apart_and_name_none() -> None:
    digests = {LocalFileKey(name, Path()).digest for name in ("one", "two")}
    assert len(digests) == 2
    assert all(len(d) == 16 and int(d, 16) >= 0 for d in digests)


@pytest.mark.parametrize(
    ("code", "status", "error", "says"),
    [
        ("InvalidCiphertextException", 400, WrongKeyError, "made with another key, for another tenant"),
        ("IncorrectKeyException", 400, WrongKeyError, "made with another key, for another tenant"),
        ("DisabledException", 409, KeyUnavailableError, "refuses to decrypt.*enabled.*kms:Decrypt"),
        ("KMSInvalidStateException", 409, KeyUnavailableError, "refuses to decrypt"),
        ("AccessDeniedException", 400, KeyUnavailableError, "refuses to decrypt"),
        ("ThrottlingException", 400, KeyUnavailableError, "no outcome"),
        ("KMSInternalException", 500, KeyUnavailableError, "no outcome"),
        ("DependencyTimeoutException", 503, KeyUnavailableError, "no outcome"),
    ],
)
def test_what_aws_kms_refuses_is_told_apart_and_not_quoted(
    code: str, status: int, error: type[Exception], says: str
) -> None:
    # moto knows neither disabled keys nor KMS's own errors.
    kms = aws.client("eu-central-1", {"accessKeyId": "a", "secretAccessKey": "b"}, Deadlines())
    with Stubber(kms) as stub:
        stub.add_client_error("decrypt", code, "the request was: hush", status)
        with pytest.raises(error, match=f"AWS KMS in eu-central-1.*{says}") as refusal:
            AwsKmsKey(ARN, kms, Deadlines(retries=0)).decrypt(b"x", CONTEXT)
    assert "hush" not in str(refusal.value)


def test_aws_kms_is_tried_again_after_what_passes_and_only_then() -> None:
    kms = aws.client("eu-central-1", {"accessKeyId": "a", "secretAccessKey": "b"}, Deadlines())
    key = AwsKmsKey(ARN, kms, Deadlines(retries=2))
    expected = {"KeyId": ARN, "Plaintext": b"x", "EncryptionContext": CONTEXT}
    with Stubber(kms) as stub:
        stub.add_client_error("encrypt", "ThrottlingException", "", 400, expected_params=expected)
        stub.add_response("encrypt", {"KeyId": ARN, "CiphertextBlob": b"y"}, expected)
        assert key.encrypt(b"x", CONTEXT) == b"y"
        stub.add_client_error("encrypt", "AccessDeniedException", "", 400)
        with pytest.raises(KeyUnavailableError):
            key.encrypt(b"x", CONTEXT)
        stub.assert_no_pending_responses()


def test_an_answer_of_another_aws_key_is_not_believed() -> None:
    kms = aws.client("eu-central-1", {"accessKeyId": "a", "secretAccessKey": "b"}, Deadlines())
    with Stubber(kms) as stub:
        stub.add_response("decrypt", {"KeyId": f"{ARN[:-1]}0", "Plaintext": b"y"})
        with pytest.raises(KeyUnavailableError, match="another key"):
            AwsKmsKey(ARN, kms, Deadlines(retries=0)).decrypt(b"x", CONTEXT)


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-central-1", "https://kms.eu-central-1.amazonaws.com"),
        ("eusc-de-east-1", "https://kms.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_aws_endpoints_are_regional(region: str, url: str) -> None:
    assert aws.endpoint(region) == url
    assert aws.client(region, {"accessKeyId": "a", "secretAccessKey": "b"}, Deadlines()).meta.endpoint_url == url
