"""A real mail server in the test's own event loop: SMTP with TLS and a login, and the boxes of its people."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from domicile.api.zone import MailServer
from domicile.controllers.realm.mail import Mail, MailAccount
from tests.integration.apiserver import Authority

SENDER = "no-reply@eu.example"
USER, PASSWORD = "relay", "Hand-It-In-42!"


@dataclass
class MailBoxes:
    """A running mail server. ``logins`` counts who tried to log in; ``password`` may change while it runs."""

    host: str
    port: int = 0
    password: str = PASSWORD
    logins: int = 0
    _boxes: dict[str, asyncio.Queue[str]] = field(default_factory=dict)

    @property
    def server(self) -> MailServer:
        return MailServer(host=self.host, port=self.port, sender=SENDER, account="relay")

    @property
    def mail(self) -> Mail:
        """This mail server with the right password."""
        return Mail(self.server, MailAccount(user=USER, password=self.password))

    async def link(self, address: str) -> str:
        """The link in the next mail to an address, which may still be on its way."""
        text = await asyncio.wait_for(self._box(address).get(), 15)
        (found,) = set(re.findall(r"https://\S+", text))
        return found

    def empty(self, address: str) -> bool:
        """Whether no mail to an address waits to be read."""
        return self._box(address).empty()

    def _box(self, address: str) -> asyncio.Queue[str]:
        return self._boxes.setdefault(address, asyncio.Queue())

    # The names of these are aiosmtpd's.
    async def handle_MAIL(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address != SENDER:
            return "550 5.7.1 no mail from there"
        envelope.mail_from = address
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        body = envelope.content if isinstance(envelope.content, bytes) else b""
        parsed: Any = email.message_from_bytes(body, policy=email.policy.default)
        for address in envelope.rcpt_tos:
            self._box(address).put_nowait(parsed.get_body(("plain",)).get_content())
        return "250 OK"

    def __call__(self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        self.logins += 1
        wanted = LoginPassword(USER.encode(), self.password.encode())
        return AuthResult(success=data == wanted, handled=False)


@asynccontextmanager
async def mail_boxes(
    authority: Authority, host: str = "localhost", *, tls: bool = True, login: bool = True
) -> AsyncIterator[MailBoxes]:
    """Run one at a name or address of this machine.

    Without ``tls`` it speaks plain text and offers nothing else; without ``login`` it takes mail from everybody.
    """
    authority.issue("mail", "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.folder / "mail.crt", authority.folder / "mail.key")
    boxes = MailBoxes(host)
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        asks = {"authenticator": boxes, "auth_required": True, "auth_require_tls": False} if login else {}
        return SMTP(boxes, loop=loop, **asks)

    listening = await loop.create_server(protocol, host, 0, ssl=context if tls else None)
    boxes.port = listening.sockets[0].getsockname()[1]
    try:
        yield boxes
    finally:
        listening.close()
