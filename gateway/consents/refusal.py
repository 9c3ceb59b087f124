"""Why a guard answers a request itself, and not as it was wished."""

from __future__ import annotations


class RefusedError(Exception):
    """A no: an HTTP status, a word for machines and a sentence for people, which quotes nothing of the request."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
