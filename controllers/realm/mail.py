"""The zone's mail server as a realm names it. Keycloak's words: RealmRepresentation, ``smtpServer``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from domicile.api.common import Model
from domicile.api.zone import MailServer

_ASCII = r"^[\x20-\x7e]+$"


class MailAccountError(Exception):
    """There is no account for the mail server; the text is fit for a condition."""


class MailAccount(Model):
    """Who hands in mail at the zone's mail server."""

    # Servers disagree about what other letters are in bytes.
    user: Annotated[str, Field(description="User name (ASCII).", pattern=_ASCII)]
    password: Annotated[str, Field(description="Password (ASCII).", pattern=_ASCII)]


@dataclass(frozen=True)
class Mail:
    """A mail server and the account there; None where it asks for none."""

    server: MailServer
    account: MailAccount | None = None

    def to_wire(self) -> dict[str, str]:
        """``smtpServer`` of a realm."""
        login = {"auth": "true", "user": self.account.user, "password": self.account.password} if self.account else {}
        return {
            "host": self.server.host,
            "port": str(self.server.port),
            "from": self.server.sender,
            # Keycloak can't insist on STARTTLS: whoever takes the offer out of the server's greeting reads all.
            "ssl": "true",
            **login,
        }
