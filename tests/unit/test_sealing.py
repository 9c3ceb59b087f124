"""Sealing: stock tink reads and writes the same bytes, and nothing but the exact ciphertext opens."""

from __future__ import annotations

import io
import os

import pytest
import tink
from hypothesis import given, settings
from hypothesis import strategies as st
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from domicile.backup import sealing
from domicile.backup.errors import IntegrityError, WrongKeyError
from domicile.backup.sealing import Associated, Sealer

FIRST = sealing.SEGMENT - sealing.HEADER - sealing.TAG
REST = sealing.SEGMENT - sealing.TAG
EDGES = [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + REST - 1, FIRST + REST, FIRST + REST + 1, FIRST + 3 * REST + 7]
KEY = bytes(range(32))


def stock_tink(key: bytes) -> streaming_aead.StreamingAead:
    """Tink's own primitive over a keyset that holds ``key``."""
    streaming_aead.register()
    value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(key_value=key)
    value.params.ciphertext_segment_size = sealing.SEGMENT
    value.params.derived_key_size = 32
    value.params.hkdf_hash_type = common_pb2.SHA256
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add(key_id=1, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW)
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.value = value.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


class Kept(io.BytesIO):
    """A BytesIO that keeps its bytes when tink closes it."""

    kept = b""

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


@pytest.mark.parametrize("size", EDGES)
def test_stock_tink_decrypts_what_we_seal(size: int) -> None:
    plaintext = os.urandom(size)
    sealed = sealing.seal(KEY, b"ad", plaintext)
    assert len(sealed) == sealing.sealed_size(size)
    with stock_tink(KEY).new_decrypting_stream(io.BytesIO(sealed), b"ad") as stream:
        assert stream.read() == plaintext


@pytest.mark.parametrize("size", EDGES)
def test_we_open_what_stock_tink_encrypts(size: int) -> None:
    plaintext, out = os.urandom(size), Kept()
    with stock_tink(KEY).new_encrypting_stream(out, b"ad") as stream:
        stream.write(plaintext)
    assert len(out.kept) == sealing.sealed_size(size)
    assert sealing.unseal(KEY, b"ad", out.kept) == plaintext


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=40), st.data())
def test_any_change_is_refused(plaintext: bytes, associated: bytes, data: st.DataObject) -> None:
    sealed = sealing.seal(KEY, associated, plaintext)
    assert sealing.unseal(KEY, associated, sealed) == plaintext
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    flipped = bytearray(sealed)
    flipped[bit // 8] ^= 1 << bit % 8
    cut = data.draw(st.integers(0, len(sealed) - 1))
    extra = data.draw(st.binary(min_size=1, max_size=60))
    for wrong in (bytes(flipped), sealed[:cut], sealed + extra, extra + sealed):
        with pytest.raises(IntegrityError):
            sealing.unseal(KEY, associated, wrong)
    with pytest.raises(IntegrityError):
        sealing.unseal(KEY, associated + b"x", sealed)
    with pytest.raises(IntegrityError):
        sealing.unseal(bytes(32), associated, sealed)


@settings(deadline=None)
@given(st.binary(max_size=4096))
def test_noise_is_refused(noise: bytes) -> None:
    for data in (noise, bytes((sealing.HEADER,)) + noise):
        with pytest.raises(IntegrityError):
            sealing.unseal(KEY, b"", data)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_segments_keep_order_number_and_end(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 4))
    plaintext = os.urandom(FIRST + (count - 2) * REST + data.draw(st.integers(1, REST)))
    sealed = sealing.seal(KEY, b"ad", plaintext)
    segments = [sealed[at : at + sealing.SEGMENT] for at in range(0, len(sealed), sealing.SEGMENT)]
    assert len(segments) == count
    order = data.draw(st.lists(st.integers(0, count - 1), max_size=count + 1).filter(lambda o: o != list(range(count))))
    with pytest.raises(IntegrityError):
        sealing.unseal(KEY, b"ad", b"".join(segments[i] for i in order))


def test_a_ciphertext_opens_only_as_what_it_was_sealed_for() -> None:
    sealer = Sealer("k1", KEY)
    to = Associated(tenant="a" * 32, zone="eu", kind="object", id="5e", generation="7", epoch=3)
    sealed = sealer.seal(to, b"text")
    assert sealer.open(to, sealed) == b"text"
    others = [
        Associated(**{**{f: getattr(to, f) for f in Associated.__slots__}, **change})
        for change in (
            {"tenant": "b" * 32}, {"zone": "us"}, {"kind": "shard"}, {"id": "5f"}, {"generation": "8"}, {"epoch": 4},
            {"id": '5e","7'}, {"id": "", "generation": "5e7"},
        )
    ]  # fmt: skip
    for other in others:
        with pytest.raises(IntegrityError):
            sealer.open(other, sealed)
    with pytest.raises(IntegrityError):
        Sealer("k2", KEY).open(to, sealed)


def test_commitment_tells_keys_apart() -> None:
    sealer = Sealer("k1", KEY)
    sealer.require("k1", sealer.commitment)
    for key_id, commitment in (("k2", sealer.commitment), ("k1", Sealer("k1", bytes(32)).commitment), ("k1", "é")):
        with pytest.raises(WrongKeyError, match="check the wrapped keys"):
            sealer.require(key_id, commitment)
    with pytest.raises(WrongKeyError):
        Sealer("k1", b"short")


def test_more_than_the_format_allows_is_refused() -> None:
    with pytest.raises(ValueError, match="cut them into parts"):
        sealing.seal(KEY, b"", bytes(sealing.MAX_PLAINTEXT + 1))
    with pytest.raises(IntegrityError, match="larger than the format"):
        sealing.unseal(KEY, b"", bytes((sealing.HEADER,)) + bytes(sealing.sealed_size(sealing.MAX_PLAINTEXT)))
