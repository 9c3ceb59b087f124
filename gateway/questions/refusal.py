"""What a caller is told where its question is not answered: ``{"error": {"message", "type", "code"}}``.

The shape is that of https://platform.openai.com/docs/guides/error-codes. A message quotes nothing that was asked.
"""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """The question is not answered; ``code`` is for programs, the message for people."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        """``status`` of HTTP; ``retry_after``: seconds after which asking again makes sense."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The answer's body."""
        return {"error": {"message": str(self), "type": _kind(self.status), "param": None, "code": self.code}}


def _kind(status: int) -> str:
    match status:
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_error"
        case _:
            return "invalid_request_error" if status < 500 else "server_error"
