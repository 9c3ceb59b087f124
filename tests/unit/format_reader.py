"""An independent reader of replicas, written from docs/format.md alone; it shares no code with the product."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import zlib
from collections.abc import Callable
from typing import Any

import google_crc32c
import tink
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

Read = Callable[[str], bytes]


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def derived(key: bytes, use: str) -> bytes:
    return HKDF(SHA256(), 32, None, f"domicile/v1/{use}".encode()).derive(key)


def primitive(seal_key: bytes) -> streaming_aead.StreamingAead:
    streaming_aead.register()
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(key_value=seal_key)
    key.params.ciphertext_segment_size = 1048576
    key.params.derived_key_size = 32
    key.params.hkdf_hash_type = common_pb2.SHA256
    data = tink_pb2.KeyData(
        type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
        value=key.SerializeToString(),
        key_material_type=tink_pb2.KeyData.SYMMETRIC,
    )
    keyset = tink_pb2.Keyset(primary_key_id=7)
    keyset.key.add(key_data=data, key_id=7, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW)
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Reader:
    def __init__(self, control: Read, replica: Read, key: bytes, tenant: str, zone: str) -> None:
        self.control, self.replica, self.tenant, self.zone = control, replica, tenant, zone
        self.record_key, self.commitment = derived(key, "record"), derived(key, "commit").hex()
        self.aead = primitive(derived(key, "seal"))
        self.key_id = ""

    def open(self, kind: str, name: str, generation: str, epoch: int, sealed: bytes) -> bytes:
        ad = canonical(["domicile", 1, self.tenant, self.zone, kind, name, generation, self.key_id, epoch])
        with self.aead.new_decrypting_stream(io.BytesIO(sealed), ad) as stream:
            return stream.read()

    def slot(self, seq: int) -> tuple[dict[str, Any], bytes]:
        data = self.control(f"commits/{self.tenant}/{seq:010d}")
        slot = json.loads(data)
        assert canonical(slot) == data
        assert (slot["version"], slot["tenant"], slot["seq"]) == (1, self.tenant, seq)
        if slot["keyId"] is not None:
            assert slot["keyCommitment"] == self.commitment
            mac = slot.pop("mac")
            assert mac == hmac.digest(self.record_key, canonical(slot), "sha256").hex()
        return slot, data

    def snapshot(self, newest: int) -> dict[str, bytes]:
        """The objects of the present snapshot; ``newest`` is the number of the newest slot."""
        slot, _ = self.slot(newest)
        while slot["kind"] == "fence":
            before, data = self.slot(slot["seq"] - 1)
            assert slot["prev"] == sha256(data)
            slot = before
        self.key_id = slot["keyId"]
        root = self.root(slot)
        changes: dict[str, tuple[int, Any]] = {}
        for name, digest, length, epoch, rows in root["deltas"]:
            delta = self.plain("delta", name, digest, length, epoch)
            assert len(delta["seqs"]) == rows
            changes.update((row[0], (seq, row)) for seq, row in zip(delta["seqs"], self.rows(delta), strict=True))
        objects: dict[str, bytes] = {}
        ends = [shard[0] for shard in root["shards"][1:]] + [None]
        for (after, name, digest, length, epoch, seq, count, size, digest_of_rows), end in zip(
            root["shards"], ends, strict=True
        ):
            rows = {row[0]: row for row in self.rows(self.plain("shard", name, digest, length, epoch))}
            rows.update(
                (n, row) for n, (at, row) in changes.items() if at > seq and after < n and (not end or n <= end)
            )
            kept = [row for _, row in sorted(rows.items()) if row[1]]
            assert all(after < row[0] and (end is None or row[0] <= end) for row in kept)
            assert (len(kept), sum(row[2] for row in kept)) == (count, size)
            assert digest_of_rows == sha256(canonical([[row[i] for row in kept] for i in range(3)]))
            for path, version, bytes_of, crc32c, parts in kept:
                data = b"".join(self.part(version, *part) for part in parts)
                assert (len(data), google_crc32c.value(data)) == (bytes_of, crc32c)
                objects[path] = data
        assert (len(objects), sum(map(len, objects.values()))) == (root["objects"], root["bytes"])
        return objects

    def plain(self, kind: str, name: str, digest: str, length: int, epoch: int) -> Any:
        sealed = self.replica(f"{self.tenant}/{kind}s/{name}")
        assert (sha256(sealed), len(sealed)) == (digest, length)
        return json.loads(zlib.decompress(self.open(kind, name, "", epoch, sealed)))

    def rows(self, columns: dict[str, Any]) -> list[Any]:
        parts = [
            [(*columns["packs"][flat[i]], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]
            for flat in columns["parts"]
        ]
        return list(zip(columns["names"], columns["versions"], columns["sizes"], columns["crcs"], parts, strict=True))

    def root(self, slot: dict[str, Any]) -> dict[str, Any]:
        sealed = self.replica(f"{self.tenant}/manifests/{slot['manifest']}")
        assert sha256(sealed) == slot["manifestDigest"]
        plain = self.open("manifest", slot["manifest"], str(slot["seq"]), slot["epoch"], sealed)
        root: dict[str, Any] = json.loads(zlib.decompress(plain))
        assert root["version"] == 1
        assert root["zone"] == self.zone
        for field in ("tenant", "seq", "epoch", "prev", "cutTime", "keyId"):
            assert root[field] == slot[field]
        return root

    def part(self, version: str, pack: str, epoch: int, offset: int, size: int) -> bytes:
        segments = 1 + max(0, -(-(size - 1048520) // 1048560))
        sealed = self.replica(f"{self.tenant}/packs/{pack}")[offset : offset + 40 + size + 16 * segments]
        return self.open("object", f"{pack}/{offset}", version, epoch, sealed)

    def mirror(self, rev: int) -> Any:
        value = json.loads(self.control(f"tenants/{self.tenant}/{rev:010d}"))
        assert value["keyCommitment"] == self.commitment
        self.key_id = value["keyId"]
        return json.loads(self.open("mirror", self.tenant, str(rev), 0, base64.b64decode(value["sealed"])))
