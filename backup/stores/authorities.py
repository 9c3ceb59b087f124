"""Whom clients believe that a store is what its name says: the system's authorities, or those of its site alone."""

from __future__ import annotations

import os
import ssl
from functools import cache

from domicile.api.zone import Site


@cache
def context(bundle: str | None) -> ssl.SSLContext:
    """By authorities (PEM); None: the system's. Raises ssl.SSLError for what are none."""
    return ssl.create_default_context(cadata=bundle)


def file(site: Site) -> str | None:
    """Path of the site's own authorities for clients that read a file; None: it has none."""
    return None if site.store_ca_bundle is None else _file(site.store_ca_bundle)


@cache
def _file(bundle: str) -> str:
    # In memory (memfd_create(2)), for as long as the process lives.
    descriptor = os.memfd_create("authorities", os.MFD_CLOEXEC)
    os.write(descriptor, bundle.encode())
    return f"/proc/{os.getpid()}/fd/{descriptor}"
