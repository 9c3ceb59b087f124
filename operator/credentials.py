"""Who a process is to others, and whom it believes: a certificate, its key, and authorities, mounted in a folder.

Changed files count from the next connection on. TLS 1.3 (RFC 8446) has no curves below P-256; OpenSSL's security level
2 refuses RSA below 2048 bits and certificates that are signed with SHA-1. Tickets are not given: a resumed session
shows no certificate.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from contextlib import ExitStack
from pathlib import Path

from domicile.api.spiffe import id_in

log = logging.getLogger(__name__)

CERTIFICATE, KEY = "tls.crt", "tls.key"


class Credentials:
    """``tls.crt``, ``tls.key`` and a file of authorities, all PEM, read again whenever they have changed."""

    def __init__(self, folder: Path, authorities: str, *, connects: bool = False) -> None:
        """``connects``: for who connects, not for who is connected to."""
        self._folder = folder
        self._files = (CERTIFICATE, KEY, authorities)
        self._side = ssl.PROTOCOL_TLS_CLIENT if connects else ssl.PROTOCOL_TLS_SERVER
        self._seen: list[tuple[int, int, int]] = []
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext | None:
        """What to use for a connection, whose other end must show a certificate of these authorities.

        Made of the newest files that fit together; None where there were none so far.
        """
        try:
            stats = [(self._folder / name).stat() for name in self._files]
            seen = [(s.st_ino, s.st_mtime_ns, s.st_size) for s in stats]
            if seen != self._seen:
                self._context = _load(self._side, *(self._folder / name for name in self._files))
                self._seen = seen
        except OSError as error:  # ssl.SSLError is one
            kept = "no connection is made" if self._context is None else "those before stay in use"
            log.error(  # noqa: TRY400 - the message says all
                "%s: %s can't be used (%s); %s. Mend the Secret that is mounted there.",
                self._folder,
                ", ".join(self._files),
                error,
                kept,
            )
        return self._context


def connecting(pair: bytes, authorities: bytes) -> ssl.SSLContext:
    """``Credentials.context`` of who connects, without files: ``pair`` is key and certificate (PEM).

    Raises ssl.SSLError where they are none.
    """
    with ExitStack() as stack:
        # OpenSSL takes keys from paths only; these lead to memory (memfd_create(2)).
        paths = []
        for content in (pair, authorities):
            file = stack.enter_context(open(os.memfd_create("tls", os.MFD_CLOEXEC), "wb"))  # noqa: PTH123 - a descriptor
            file.write(content)
            file.flush()
            paths.append(Path(f"/proc/self/fd/{file.fileno()}"))
        return _load(ssl.PROTOCOL_TLS_CLIENT, paths[0], paths[0], paths[1])


def _load(side: int, certificate: Path, key: Path, authorities: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Also sets the least strength of keys and signatures of all certificates, whatever the system's default is.
    context.set_ciphers("DEFAULT:@SECLEVEL=2")
    if side == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    # An issuing authority may be named without the root above it, whose other certificates then stay out.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def caller(transport: asyncio.BaseTransport | None) -> str | None:
    """SPIFFE ID of who has connected; None once the certificate no longer counts by which the connection was made."""
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if not certificate or time.time() >= ssl.cert_time_to_seconds(certificate["notAfter"]):
        return None
    return id_in(certificate)
