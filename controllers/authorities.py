"""Authorities that people write into a zone. Pure."""

from __future__ import annotations

from cryptography import x509


def readable(bundle: str) -> bool:
    """Whether it is certificates (PEM) as a whole, and not only looks like it."""
    try:
        return bool(x509.load_pem_x509_certificates(bundle.encode()))
    except ValueError:
        return False
