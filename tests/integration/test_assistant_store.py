"""The reference assistant follows credentials that change while it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.assistant.settings import SettingsError, StoreUrl
from examples.assistant.store import GcsStore, RenewedStore, StoreError, open_store
from tests.integration.assistant_process import KEY, bucket, store_server


def test_a_renewed_key_counts_with_the_next_call(tmp_path: Path) -> None:
    with store_server("s3") as server:
        live = bucket("s3", server, "live-renewed", tmp_path)
        file = live.credentials
        assert file is not None
        file.write_text(json.dumps(KEY | {"secretAccessKey": "ended"}))
        store = open_store(StoreUrl.parse(live.url), file)
        with pytest.raises(StoreError, match="answered 403"):
            store.list("")
        file.write_text(json.dumps(KEY))
        assert store.list("")
        store.create("x", b"1")
        for content in ("", "[]", "{", '{"accessKeyId": "hush"}', '"hush"'):
            file.write_text(content)
            with pytest.raises(StoreError) as refused:
                store.read("x")
            assert "hush" not in str(refused.value)
        file.unlink()
        with pytest.raises(StoreError, match="mount a JSON file"):
            store.read("x")
        file.write_text(json.dumps(KEY))
        assert store.read("x") == b"1"
        store.delete("x")


def test_a_session_of_aws_is_shown_with_its_token(tmp_path: Path) -> None:
    file = tmp_path / "store.json"
    file.write_text(json.dumps(KEY | {"sessionToken": "session", "expiresAt": "2099-01-01T00:00:00Z"}))
    store = open_store(StoreUrl.parse("s3://b?region=eu-central-1"), file)
    assert isinstance(store, RenewedStore)
    url = store._now()._client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})  # type: ignore[attr-defined]
    assert "X-Amz-Security-Token=session" in url


def test_a_token_of_google_is_shown_until_the_next_one_is_there(tmp_path: Path) -> None:
    file = tmp_path / "store.json"
    found = []
    for token in ("ya29.one", "ya29.two"):
        file.write_text(json.dumps({"accessToken": token, "expiresAt": "2099-01-01T00:00:00Z"}))
        if not found:
            store = open_store(StoreUrl.parse("gs://b?region=europe-west3"), file)
        assert isinstance(store, RenewedStore)
        now = store._now()
        assert isinstance(now, GcsStore)
        headers: dict[str, str] = {}
        now._client._credentials.before_request(None, "GET", "https://storage.example", headers)
        found.append(headers["authorization"])
    assert found == ["Bearer ya29.one", "Bearer ya29.two"]


@pytest.mark.parametrize("content", ["{}", '{"type": "external_account"}', '{"expiresAt": "2099-01-01T00:00:00Z"}'])
@pytest.mark.parametrize("url", ["s3://b?region=eu-central-1", "gs://b?region=europe-west3"])
def test_credentials_of_another_kind_are_refused_at_start(url: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(SettingsError, match="ASSISTANT_STORE_CREDENTIALS"):
        open_store(StoreUrl.parse(url), tmp_path / "store.json")
