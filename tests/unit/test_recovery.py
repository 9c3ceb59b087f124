"""What docs/keys.md says of wraps, key ids and proofs is enough to open and check them with stock tools."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tink
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tink import hybrid, secret_key_access

from domicile.backup import proofs
from tests.unit.key_sites import TENANT, KeySites


def derived(key: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, None, info).derive(key)


def test_a_wrap_opens_with_stock_tink(tmp_path: Path) -> None:
    sites = KeySites(tmp_path)
    sites.mint()
    [name] = sites.two_keys.objects
    _, tenant, key_id, kek_and_content = name.split("/")
    wrap = sites.two_keys.read(name)
    zone = hashlib.sha256(b"zone:eu").hexdigest()[:16]
    context = f'{{"format":"domicile-wrap-2","keyId":"{key_id}","tenant":"{tenant}","zone":"{zone}"}}'
    private = (tmp_path / "two" / "two.private.json").read_text()
    decrypt: Any = hybrid.HybridDecrypt
    handle = tink.json_proto_keyset_format.parse(private, secret_key_access.TOKEN)
    key = handle.primitive(decrypt).decrypt(wrap, context.encode())
    assert key == sites.open("one").secret
    assert derived(key, b"domicile/v1/key-id")[:16].hex() == key_id.split("-")[1]
    kek = hashlib.sha256(b"file:two").hexdigest()[:16]
    assert kek_and_content == f"{kek}-{hashlib.sha256(wrap).hexdigest()[:16]}"


def test_a_proof_is_checked_with_an_hmac(tmp_path: Path) -> None:
    sites = KeySites(tmp_path)
    sites.mint()
    key = sites.open("two")
    proofs.publish(sites.two_control, key, TENANT, "two", datetime(2026, 1, 31, 12, 34, tzinfo=UTC))
    [name] = sites.two_control.objects
    assert name == f"proofs/{TENANT}/{key.key_id}/2026013112"
    fields = json.loads(sites.two_control.read(name))
    mac = fields.pop("mac")
    text = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    assert mac == hmac.new(derived(key.secret, b"domicile/v1/proof"), text, "sha256").hexdigest()
