"""Commit slots, fences, the mirror and live-bucket records: strict parsing, races, lost answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.backup import binding, canonical, mirror, records
from domicile.backup.binding import BucketTakenError
from domicile.backup.errors import (
    BackupError,
    ConcurrentRunError,
    FencedError,
    IntegrityError,
    RollbackError,
    WrongKeyError,
)
from domicile.backup.keys import TenantKey
from domicile.backup.records import Slot
from domicile.backup.sealing import Sealer
from domicile.backup.stores.base import UnavailableError
from tests.memory_bucket import MemoryBucket
from tests.unit.format_reader import Reader
from tests.unit.world import DIGEST, KEY, TENANT, ZONE, World, contents

SEALER = Sealer(KEY.key_id, KEY.secret)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
HEX32 = "5e" * 16


def commit(**other: Any) -> Slot:
    fields = {"kind": "commit", "tenant": TENANT, "seq": 1, "epoch": 1, "prev": None, "write_id": HEX32} | {
        "key_id": KEY.key_id,
        "key_commitment": SEALER.commitment,
        "manifest": HEX32,
        "manifest_digest": DIGEST,
        "cut_time": "2026-01-31T12:00:00.000000Z",
        "residency_digest": DIGEST,
    }
    return Slot(**fields | other).signed(SEALER)


def fence(**other: Any) -> Slot:
    fields = {"kind": "fence", "tenant": TENANT, "seq": 1, "epoch": 2, "prev": None, "write_id": HEX32}
    return Slot(**fields | other)


PARSERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "commit": (commit().to_bytes(), lambda data: records.parse(data, TENANT, 1)),
    "fence": (fence().to_bytes(), lambda data: records.parse(data, TENANT, 1)),
}


def test_what_is_written_is_what_is_read() -> None:
    for slot in (commit(), commit(seq=2, prev=DIGEST), fence(), fence(key_id="k1", key_commitment=DIGEST, mac=DIGEST)):
        assert records.parse(slot.to_bytes(), TENANT, slot.seq) == slot


@pytest.mark.parametrize("parser", PARSERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_parsers_take_the_canonical_form_or_raise(parser: str, data: st.DataObject) -> None:
    good, parse = PARSERS[parser]
    parse(good)
    value = json.loads(good)
    target, key = value, data.draw(st.sampled_from(sorted(value)))
    if isinstance(value[key], list) and data.draw(st.booleans()):
        target, key = value[key], 0
        while isinstance(target[key], (list, dict)) and target[key] and data.draw(st.booleans()):
            target = target[key]
            key = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
    target[key] = data.draw(JSON)
    changed = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    noise = data.draw(st.binary(max_size=64))
    at = data.draw(st.integers(0, len(good)))
    for bad in (changed, noise, good[:at] + noise + good[at:], good[:at], good.replace(b":", b": ", 1)):
        try:
            result = parse(bad)
        except IntegrityError:
            continue
        assert isinstance(result, Slot)
        assert result.to_bytes() == bad


@pytest.mark.parametrize(
    "bad",
    [
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b"1.50",
        b"NaN",
        b'{"a": 1}',
        '"ü"'.encode(),
        b"\xff",
        b"9" * 5000,
        b"",
        b"-0",
        b"[" * 9999,
    ],
)
def test_only_canonical_json_is_taken(bad: bytes) -> None:
    with pytest.raises(IntegrityError):
        canonical.decode(bad, "it")


def test_a_lost_answer_of_the_slot_counts_by_its_write_id() -> None:
    world = World()
    world.write("a", b"1")
    world.control_two.fail("create", lost="answer")
    assert world.replicate().seq == 1
    world.control_two.fail("create", lost="request")
    with pytest.raises(UnavailableError):
        world.replicate()
    assert world.highest() == 1


def test_a_fence_outruns_commits_and_survives_lost_answers() -> None:
    world, left = World(), [2]

    def commit_first(operation: str, name: str) -> None:
        if operation == "create" and left[0]:
            left[0] -= 1
            world.control_two.before, hook = (lambda *_: None), world.control_two.before
            world.replicate()
            world.control_two.before = hook

    world.control_two.before = commit_first
    fenced = world.fence(2)
    assert fenced.seq == 3
    assert fenced.commit == records.read(world.control_two, TENANT, 2)
    world.control_two.before = lambda *_: None
    with pytest.raises(FencedError):
        world.fence(1)
    world.control_two.fail("create", lost="answer")
    assert world.fence(4).seq == 4
    assert World().fence(2) == records.Fence(1, None)


def test_a_commit_of_the_same_or_a_newer_epoch_is_not_fenced() -> None:
    world = World()
    world.replicate(epoch=3)
    for epoch in (2, 3):
        with pytest.raises(FencedError, match="can't fence"):
            world.fence(epoch)
    with pytest.raises(FencedError):
        world.replicate(epoch=2)


def test_a_link_that_does_not_fit_is_refused() -> None:
    control = MemoryBucket("two", "control")
    first = commit()
    for kind, slot in (("link", fence(seq=2, prev=DIGEST)), ("epoch", fence(seq=2, prev=first.digest, epoch=1))):
        control.objects.clear()
        control.create(records.slot_name(TENANT, 1), first.to_bytes())
        control.create(records.slot_name(TENANT, 2), slot.to_bytes())
        with pytest.raises(IntegrityError, match="follow" if kind == "link" else "epoch"):
            records.tip(control, TENANT, SEALER)
        with pytest.raises(IntegrityError):
            records.verify_chain(control, TENANT, SEALER)
    control.create(f"commits/{TENANT}/x", b"")
    with pytest.raises(IntegrityError, match="are no slots"):
        records.highest(control, TENANT)


def test_the_echo_follows_the_slot() -> None:
    world = World()
    world.replicate()
    name = records.echo_name(TENANT, 1)
    assert contents(world.control_one) == {name: world.control_two.read(records.slot_name(TENANT, 1))}
    world.control_one.objects[records.echo_name(TENANT, 2)] = (9, commit(seq=2, prev=DIGEST).to_bytes())
    with pytest.raises(RollbackError):
        world.replicate()


def test_two_runs_at_once_commit_one_after_the_other_or_not() -> None:
    world, results = World(), []
    world.write("a", b"1")

    def run() -> None:
        try:
            results.append(world.replicate().seq)
        except ConcurrentRunError:
            results.append(0)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = sorted(seq for seq in results if seq)
    assert won == list(range(1, len(won) + 1))
    assert world.highest() == len(won) > 0
    assert records.verify_chain(world.control_two, TENANT, SEALER) == len(won)


def test_the_mirror_is_written_where_it_lacks_and_only_when_it_says_something_new() -> None:
    own, peer = MemoryBucket("one", "control"), MemoryBucket("two", "control")
    document = {"tenant": {"name": "acme"}, "secrets": ["s3cret"]}
    assert mirror.read(own, KEY, TENANT, ZONE) is None
    peer.fail("create")
    with pytest.raises(UnavailableError):
        mirror.publish([own, peer], KEY, TENANT, ZONE, document)
    assert mirror.publish([own, peer], KEY, TENANT, ZONE, document) == 1
    assert mirror.publish([own, peer], KEY, TENANT, ZONE, document) == 1
    assert mirror.read(own, KEY, TENANT, ZONE) == mirror.read(peer, KEY, TENANT, ZONE) == (1, document)
    assert mirror.publish([own, peer], KEY, TENANT, ZONE, document | {"more": 1}) == 2
    assert mirror.tenants(peer) == [TENANT]
    assert contents(own) == contents(peer)
    assert all(b"acme" not in data and b"s3cret" not in data for data in contents(own).values())
    reader = Reader(own.read, own.read, KEY.secret, TENANT, ZONE)
    assert reader.mirror(1) == document


def test_a_damaged_or_foreign_mirror_is_refused() -> None:
    control = MemoryBucket("one", "control")
    mirror.publish([control], KEY, TENANT, ZONE, {"a": 1})
    with pytest.raises(WrongKeyError):
        mirror.read(control, TenantKey("k1", bytes(32)), TENANT, ZONE)
    with pytest.raises(IntegrityError):
        mirror.read(control, KEY, TENANT, "us")
    name = next(iter(control.objects))
    good = control.objects[name][1]
    for at in range(0, len(good), 7):
        control.objects[name] = (1, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(BackupError):
            mirror.read(control, KEY, TENANT, ZONE)


def test_a_bucket_serves_one_tenant_and_a_tenant_has_one_bucket() -> None:
    control, other = MemoryBucket("one", "control"), "cd" * 16
    assert binding.live_bucket(control, TENANT) is None
    assert binding.bind_live(control, TENANT, "b1") == "b1"
    assert binding.bind_live(control, TENANT, "b2") == "b1"
    with pytest.raises(BucketTakenError, match="another tenant"):
        binding.bind_live(control, other, "b1")
    control.fail("create", lost="request", matching="live/")
    with pytest.raises(UnavailableError):
        binding.bind_live(control, other, "b3")
    assert binding.live_bucket(control, other) is None
    assert binding.bind_live(control, other, "b3") == "b3"
    assert binding.taken(control) == {"b1", "b3"}


def test_racing_binders_agree() -> None:
    control = MemoryBucket("one", "control")

    def rival(operation: str, name: str) -> None:
        if name.startswith("live/"):
            control.before = lambda *_: None
            assert binding.bind_live(control, TENANT, "b2") == "b2"

    control.before = lambda op, name: rival(op, name) if op == "create" else None
    assert binding.bind_live(control, TENANT, "b1") == "b2"
    assert binding.taken(control) == {"b1", "b2"}


def test_a_bucket_beside_is_reserved_for_one_restore_and_never_becomes_a_live_one() -> None:
    control, other = MemoryBucket("one", "control"), "cd" * 16
    assert binding.beside_bucket(control, "r1") is None
    control.fail("create", lost="request", matching="beside/")
    with pytest.raises(UnavailableError):
        binding.bind_beside(control, TENANT, "r1", "b1")
    assert binding.bind_beside(control, TENANT, "r1", "b1") == "b1"
    assert binding.bind_beside(control, TENANT, "r1", "b2") == "b1"
    for tenant, restore in ((TENANT, "r2"), (other, "r2")):
        with pytest.raises(BucketTakenError, match="another restore"):
            binding.bind_beside(control, tenant, restore, "b1")
    for tenant in (TENANT, other):
        with pytest.raises(BucketTakenError):
            binding.bind_live(control, tenant, "b1")
        assert binding.live_bucket(control, tenant) is None
    binding.bind_live(control, TENANT, "b3")
    with pytest.raises(BucketTakenError, match="serves a tenant"):
        binding.bind_beside(control, TENANT, "r3", "b3")
    assert binding.taken(control) == {"b1", "b3"}


def test_foreign_objects_among_the_echoes_are_no_commits() -> None:
    own = MemoryBucket("one", "control")
    for name in ("x", "x/0000000001", "0000000009x", "00000000010", "\u0661" * 10):
        own.create(f"echo/{TENANT}/{name}", b"foreign")
    assert records.highest_echo(own, TENANT) is None
