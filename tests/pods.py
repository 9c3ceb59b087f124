"""Certificates that pods show to each other, for tests: by an authority that signs at once."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from domicile.controllers.pki import holders, leaf
from domicile.controllers.pki.authority import Authority, bundle, make
from domicile.controllers.pki.leaf import Holder
from domicile.credentials import connecting

DOOR = holders.door("bank")
# Who serves here is called by the loopback's name.
GUARD = Holder("bank", "helpdesk", "", ("localhost",))
LEASE = Holder("domicile-system", "domicile-lease", "", ("localhost",), calls=False)


def authority() -> Authority:
    """One that signs at once."""
    return make(datetime.now(UTC))


PODS = authority()
"""The one of all pods, unless a test says otherwise."""


def certificates(holder: Holder, signer: Authority = PODS, *trusted: Authority) -> dict[str, bytes]:
    """What is mounted of a holder's Secret: a new leaf, and whom to believe (default: the signer)."""
    held = leaf.issue((signer,), holder, datetime.now(UTC))
    return {**held, leaf.BUNDLE: bundle(trusted or (signer,))}


def mounted(folder: Path, holder: Holder, signer: Authority = PODS, *trusted: Authority) -> Path:
    """The folder, with those certificates in it as files."""
    folder.mkdir(exist_ok=True)
    for name, content in certificates(holder, signer, *trusted).items():
        (folder / name).write_bytes(content)
    return folder


def calling(holder: Holder, signer: Authority = PODS, *trusted: Authority) -> ssl.SSLContext:
    """By what a holder connects."""
    held = certificates(holder, signer, *trusted)
    return connecting(held[leaf.PAIR], held[leaf.BUNDLE])
