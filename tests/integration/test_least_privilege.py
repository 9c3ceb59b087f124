"""What an identity needs at the peer is get, list and create: it could not delete a snapshot if it wanted to."""

from __future__ import annotations

import json

import pytest

from domicile.backup.keys import TenantKey
from domicile.backup.replicate import replicate
from domicile.backup.restore import verify
from domicile.backup.stores import open_bucket
from domicile.backup.stores.base import DeniedError
from tests.gcs_standin import accounts
from tests.integration.stores_fixture import StandinSite, cloud_standin_site  # noqa: F401
from tests.memory_bucket import MemoryBucket

TENANT, KEY = "ab" * 16, TenantKey("k1", bytes(range(32)))


def test_replication_never_needs_to_delete_or_overwrite_at_the_peer(cloud_standin_site: StandinSite) -> None:  # noqa: F811
    peer = cloud_standin_site
    for name in ("replica", "control"):
        peer.state.add_bucket(f"peer-{name}", "EUROPE-WEST3")
    writer = peer.state.accounts.add(
        "writer@standin.iam.gserviceaccount.com",
        {f"peer-{name}": accounts.READ | accounts.CREATE for name in ("replica", "control")},
    )
    (peer.credentials / f"{peer.site.name}.json").write_text(json.dumps(writer))
    replica, control = (open_bucket(peer.site, f"peer-{name}", peer.credentials) for name in ("replica", "control"))
    live, own = MemoryBucket("home", "live"), MemoryBucket("home", "control")
    scope = {"tenant": TENANT, "zone": "eu", "epoch": 1, "residency_digest": "0" * 64}
    for i in range(50):
        live.write(f"conversations/{i}", iter((bytes([i]) * i,)), i)
    replicate(live, replica, control, own, KEY, **scope)  # type: ignore[arg-type]
    live.delete("conversations/7")
    live.write("conversations/8", iter((b"new",)), 3)
    replicate(live, replica, control, own, KEY, **scope)  # type: ignore[arg-type]
    assert verify(control, replica, KEY, TENANT, "eu").objects == 49
    kept = {info.name: info.version for info in replica.list()}
    for name in kept:
        with pytest.raises(DeniedError):
            replica.delete(name)
        with pytest.raises(DeniedError):
            replica.write(name, iter((b"",)), 0)
    assert {info.name: info.version for info in replica.list()} == kept
