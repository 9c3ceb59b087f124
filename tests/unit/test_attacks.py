"""What an unlucky or hostile world could do to replication, tried one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domicile.backup import manifest, packing, records, replicate, restore, snapshot
from domicile.backup.errors import HeldError, IntegrityError, LiveNotEmptyError
from domicile.backup.journal import Share
from domicile.backup.replicate import Counts
from domicile.backup.restore import Mode
from domicile.backup.sealing import Sealer
from domicile.backup.snapshot import Scope, Snapshot
from domicile.backup.stores import listing, open_bucket
from domicile.backup.stores.base import UnavailableError
from domicile.backup.stores.wire import Answer, Wire
from tests.integration.stores_fixture import make_site
from tests.memory_bucket import MemoryBucket
from tests.unit.test_replication_model import shrink_sizes
from tests.unit.world import KEY, TENANT, ZONE, WithoutChecksums, World, contents

SCOPE = Scope(TENANT, ZONE, Sealer(KEY.key_id, KEY.secret))


def test_a_run_over_many_tiny_objects_is_journaled_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bytes alone would never fill a journal, and then their rows would be more than a reader takes."""
    monkeypatch.setattr(manifest, "MAX_OBJECTS", 1000)
    monkeypatch.setattr(replicate, "JOURNAL_ROWS", 1200)
    world = World()
    for i in range(3000):
        world.write(f"{i:04}", b"")
    world.replica.fail("create", matching="/manifests/")
    with pytest.raises(UnavailableError):
        world.replicate()
    assert sum("/journals/" in name for name in contents(world.replica)) == 4
    assert world.replicate().changed == 3000 - 2 * 1200
    assert world.restored() == world.contents()


def newest(world: World) -> Snapshot:
    slot = records.highest(world.control_two, TENANT)
    assert slot
    return Snapshot(world.replica, SCOPE, snapshot.read_root(world.replica, SCOPE, slot))


def test_a_large_object_is_sealed_anew_whichever_of_its_packs_is_distrusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LARGE_BYTES", 100)
    monkeypatch.setattr(packing, "PART_BYTES", 60)
    world = World()
    world.write("large", bytes(150))
    world.replicate()
    for number in range(3):
        before = newest(world).entries(0)[0].parts
        assert world.replicate(distrusted=frozenset({before[number].pack})).changed == 1
        assert not {part.pack for part in newest(world).entries(0)[0].parts} & {part.pack for part in before}


def test_an_empty_bucket_that_took_the_live_one_s_place_is_held() -> None:
    world = World()
    for i in range(200):
        world.write(f"{i:03}", b"content")
    world.replicate()
    world.live = MemoryBucket("one", "never-restored")
    world.write("000", b"content")
    with pytest.raises(HeldError, match="199 so far"):
        world.replicate()
    assert world.highest() == 1
    assert world.replicate(accept_change=True).objects == 1


def test_another_bucket_with_as_many_objects_is_sealed_anew() -> None:
    world = World()
    for i in range(200):
        world.write(f"{i:03}", b"content")
    world.replicate()
    world.live = MemoryBucket("one", "restored")
    for i in range(150):
        world.write(f"{i:03}", b"CONTENT")
    assert world.replicate().changed == 150
    assert world.restored() == world.contents()


def test_objects_that_all_grow_behind_the_listing_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant could do so on purpose; the process replicates others, too."""
    monkeypatch.setattr(packing, "PACK_BYTES", 3000)
    world, grown = World(), bytes(1000)
    for i in range(40):
        world.write(f"{i:02}", b"")

    def grow(operation: str, name: str) -> None:
        if operation == "read" and world.live.objects[name][1] != grown:
            world.live.before = lambda *_: None
            for i in range(40):
                world.write(f"{i:02}", grown)

    world.live.before = grow
    assert world.replicate().changed == 40
    assert world.restored() == world.contents() == {f"{i:02}": grown for i in range(40)}
    assert max(len(data) for name, data in contents(world.replica).items() if "/packs/" in name) <= 3000


def test_a_bucket_with_dots_is_asked_for_where_a_certificate_fits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """AWS's certificates hold for one label only (S3 User Guide, virtual hosting of buckets)."""
    asked: list[tuple[str, str]] = []

    def ask(self: Wire, method: str, target: str, headers: Mapping[str, str], *_: object, **__: object) -> Answer:
        asked.append((self.host, target))
        return Answer(200, {"content-length": "2"}, b"ok")

    monkeypatch.setattr(Wire, "ask", ask)
    site = make_site("aws-frankfurt", "aws", "eu-central-1", None)
    (tmp_path / f"{site.name}.json").write_text(json.dumps({"accessKeyId": "id", "secretAccessKey": "secret"}))
    for name in ("plain-bucket", "dotted.bucket"):
        assert open_bucket(site, name, tmp_path).read("claims/x") == b"ok"
    home = "s3.eu-central-1.amazonaws.com"
    assert asked == [(f"plain-bucket.{home}", "/claims/x"), (home, "/dotted.bucket/claims/x")]


@pytest.mark.parametrize("answer", [b"{}", b'{"error": {}}', b'{"kind": "storage#buckets"}', b'{"items": []}'])
def test_what_is_no_listing_is_no_empty_bucket(answer: bytes) -> None:
    with pytest.raises(listing.MalformedError):
        listing.of_gcs(answer)
    assert listing.of_gcs(b'{"kind": "storage#objects"}')[0].names == []


@pytest.mark.parametrize(("newer", "differs"), [(b"newer", True), (bytes(300), False)])
def test_a_restore_thought_dead_undoes_no_large_object_either(
    newer: bytes, differs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LARGE_BYTES", 100)
    monkeypatch.setattr(packing, "PART_BYTES", 60)
    monkeypatch.setattr(restore, "LARGE_BYTES", 100)
    world, target = World(), MemoryBucket("two", "fresh")
    world.write("large", bytes(300))
    world.replicate()

    def slow(operation: str, _: str) -> None:
        if operation == "write":
            target.before = lambda *_: None
            target.write("large", iter((newer,)), len(newer))

    target.before = slow
    with pytest.raises(LiveNotEmptyError) if differs else nullcontext():
        world.restore(target)
    assert contents(target) == {"large": newer}


def test_the_share_that_a_pod_sealed_first_counts_once() -> None:
    """A pod of an Indexed Job seals its share and then commits, and tells of both as one."""
    world, counts = World(), Counts()
    for i in range(300):
        world.write(f"{i:03}", b"content")
    world.replicate()
    for i in range(140):
        world.live.delete(f"{i:03}")
    for share in (Share(0, 1), None):
        world.replicate(share=share, counts=counts)
    assert world.restored() == world.contents()
    assert (counts.listed, counts.lost) == (160, 140)
    world.live = MemoryBucket("one", "never-restored")
    with pytest.raises(HeldError, match="160 so far"):
        world.replicate(counts=counts)


def test_a_damaged_shard_lets_no_emptied_bucket_through() -> None:
    """The writer seals everything anew by itself where the scrub of the other site finds lists that can't be read."""
    world = World()
    for i in range(200):
        world.write(f"{i:03}", b"content")
    world.replicate()
    first = world.contents()
    [shard] = [name for name in contents(world.replica) if "/shards/" in name]
    world.replica.objects[shard] = (1, b"damaged")
    for i in range(150):
        world.live.delete(f"{i:03}")
    with pytest.raises(HeldError, match="150 so far"):
        world.replicate(full=True)
    world.live.objects.update({name: (i, data) for i, (name, data) in enumerate(first.items())})
    assert world.replicate(full=True).changed == 200
    assert world.restored() == first


def test_a_damaged_root_hinders_no_run_that_seals_everything_anew() -> None:
    world = World()
    world.write("a", b"content")
    world.replicate()
    for name in contents(world.replica):
        world.replica.objects[name] = (1, b"damaged")
    with pytest.raises(IntegrityError):
        world.replicate()
    assert world.replicate(full=True).changed == 1
    assert world.restored() == world.contents()


ODD = st.text(["a", "b", "/", "\x01", "ÿ", "\U0010ffff"], min_size=1, max_size=3)
DATA = st.sampled_from([b"", b"x", b"y", bytes(90), bytes(130), b"1" * 130, bytes(250)])
STATE = st.dictionaries(ODD, DATA, max_size=20)


@pytest.mark.parametrize("kind", [MemoryBucket, WithoutChecksums])
@pytest.mark.parametrize("mode", Mode)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(then=STATE, now=STATE, prefix=st.just("") | ODD, partly=st.booleans())
def test_a_restore_makes_of_any_bucket_what_its_mode_says(
    kind: type[MemoryBucket], mode: Mode, then: dict[str, bytes], now: dict[str, bytes], prefix: str, partly: bool
) -> None:
    world, live = World(), kind("two", "fresh")
    now = {name: then.get(name, data) if partly else data for name, data in now.items()}
    wanted = {name: data for name, data in then.items() if name.startswith(prefix)}
    inside = {name: data for name, data in now.items() if name.startswith(prefix)}
    outside = {name: data for name, data in now.items() if name not in inside}
    with pytest.MonkeyPatch.context() as patch:
        shrink_sizes(patch)
        for bucket, state in ((world.live, then), (live, now)):
            for name, data in state.items():
                bucket.write(name, iter((data,)), len(data))
        world.replicate()
        refused = mode is Mode.FRESH and not inside.items() <= wanted.items()
        told = []
        for dry_run in (True, False):
            with pytest.raises(LiveNotEmptyError) if refused else nullcontext():
                told.append(world.restore(live, mode=mode, prefix=prefix, dry_run=dry_run))
            if dry_run or refused:
                assert contents(live) == now
        if not refused:
            assert contents(live) == outside | (wanted if mode is Mode.EXACT else inside | wanted)
            assert told[0] == told[1]
            again = world.restore(live, mode=mode, prefix=prefix)
            assert (again.skipped, again.overwritten, again.deleted) == (len(wanted), 0, 0)
