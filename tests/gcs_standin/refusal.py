"""Answers, and refusals in the shapes of the JSON and the XML API.

Source: Cloud Storage, HTTP status and error codes of the JSON API and of the XML API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

_XML_CODES = {
    400: "InvalidArgument",
    401: "AuthenticationRequired",
    403: "AccessDenied",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    412: "PreconditionFailed",
    416: "InvalidRange",
    501: "NotImplemented",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and headers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """A request is answered with an error: status, Google's reason and a message."""

    def __init__(self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.headers = status, reason, message, headers or {}

    def answer(self, *, xml: bool) -> Answer:
        """The error in the shape of the API that was called."""
        if self.status in {304, 308}:
            return Answer(self.status, b"", self.headers)
        if xml:
            code = "NoSuchBucket" if "bucket does not exist" in self.message else _XML_CODES.get(self.status, "Invalid")
            text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code>"
            text += f"<Message>{escape(self.message)}</Message></Error>"
            return Answer(
                self.status, text.encode(), {"Content-Type": "application/xml; charset=UTF-8", **self.headers}
            )
        errors = [{"message": self.message, "domain": "global", "reason": self.reason}]
        error = {"error": {"code": self.status, "message": self.message, "errors": errors}}
        return Answer(self.status, json.dumps(error).encode(), {"Content-Type": "application/json", **self.headers})
