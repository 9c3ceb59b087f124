"""Whether the zones' mail servers take mail: asked no more often than needed, and none is sent.

Keycloak's own test sends mail to whoever asks, and does not say what failed; so the operator asks itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import smtplib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from domicile.controllers.realm.mail import Mail, MailAccount
from domicile.controllers.realm.refusals import REFUSED_SECONDS

# How long a good answer counts, and how long a bad one.
LOOK_SECONDS = 300.0
FAULT_SECONDS = 60.0
LOGIN_REFUSED = "MailLoginRefused"
_TIMEOUT_SECONDS = 8.0


class Fault(NamedTuple):
    """Why a server takes no mail, as a condition says it."""

    reason: str
    message: str


@dataclass(frozen=True)
class _Answer:
    at: float
    fault: Fault | None

    @property
    def patience(self) -> float:
        if self.fault is None:
            return LOOK_SECONDS
        # Wrong passwords lock accounts.
        return REFUSED_SECONDS if self.fault.reason == LOGIN_REFUSED else FAULT_SECONDS


class MailServers:
    """Looks at mail servers, at each once for all tenants."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: dict[str, _Answer] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def fault(self, mail: Mail, authorities: str) -> Fault | None:
        """What keeps mail from being handed in, if anything. ``authorities`` (PEM) vouch beside the system's."""
        name = hashlib.sha256(json.dumps([mail.to_wire(), authorities], sort_keys=True).encode()).hexdigest()
        async with self._asking.setdefault(name, asyncio.Lock()):
            answer = self._answers.get(name)
            if answer is None or self._clock() - answer.at >= answer.patience:
                fault = await asyncio.to_thread(_fault, mail, authorities)
                answer = self._answers[name] = _Answer(self._clock(), fault)
        return answer.fault


def _fault(mail: Mail, authorities: str) -> Fault | None:
    context = ssl.create_default_context()
    if authorities:
        context.load_verify_locations(cadata=authorities)
    try:
        code = _begin(mail, context)
    except (OSError, smtplib.SMTPException) as error:
        return _told(mail, error)
    if code == 250:
        return None
    return Fault(
        "MailSenderRefused",
        f"{_name(mail)} answers {code} to the sender {mail.server.sender}: let it take mail from there, or correct"
        " sender or account of the zone's spec.identity.mail.",
    )


def _begin(mail: Mail, context: ssl.SSLContext) -> int:
    """Begin a delivery, and end it before there is one; what the server answers to the sender's address (RFC 5321).

    Raises OSError, SMTPException.
    """
    with smtplib.SMTP_SSL(mail.server.host, mail.server.port, timeout=_TIMEOUT_SECONDS, context=context) as smtp:
        smtp.ehlo_or_helo_if_needed()
        if mail.account is not None:
            _log_in(smtp, mail.account)
        return smtp.mail(mail.server.sender)[0]


def _log_in(smtp: smtplib.SMTP, account: MailAccount) -> None:
    """By one mechanism, for the library's own login tries a wrong password by each. Raises SMTPException."""
    ways = {"PLAIN": smtp.auth_plain, "LOGIN": smtp.auth_login}
    offered = smtp.esmtp_features.get("auth", "").split()
    if (way := next((w for w in ways if w in offered), None)) is None:
        raise smtplib.SMTPNotSupportedError("no mechanism in common")
    smtp.user, smtp.password = account.user, account.password
    smtp.auth(way, ways[way])


def _told(mail: Mail, error: OSError | smtplib.SMTPException) -> Fault:
    """The fault in words; none quotes the server."""
    match error:
        case ssl.SSLCertVerificationError():
            return Fault(
                "MailCertificateRefused",
                f"The certificate of {mail.server.host}:{mail.server.port} has expired, is not to be trusted or for"
                " another name. An authority of your own belongs into <zone>.pem of the operator's identitySecret, and"
                " into the truststore of the identity server.",
            )
        case ssl.SSLError():
            return Fault(
                "MailServerWithoutTls",
                f"{_name(mail)} does not begin with TLS 1.2 or newer: name the port on which it does, mostly 465."
                " STARTTLS is not used, for the identity server can't insist on it.",
            )
        case smtplib.SMTPNotSupportedError():
            return Fault(
                "MailLoginNotOffered",
                f"{_name(mail)} offers no login by PLAIN or LOGIN: take account out of the zone's spec.identity.mail.",
            )
        case smtplib.SMTPAuthenticationError() if error.smtp_code >= 500:
            return Fault(
                LOGIN_REFUSED,
                f"{_name(mail)} refuses user or password of {mail.server.account}.mail.json: correct them in the"
                " operator's Secret of identity accounts. It is asked again when they change, or after an hour: wrong"
                " passwords lock accounts.",
            )
    why = f"it answers {error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else type(error).__name__
    return Fault(
        "MailServerUnreachable",
        f"{_name(mail)} can't be used ({why}): is it up, and may the operator and the identity server connect there?",
    )


def _name(mail: Mail) -> str:
    return f"The mail server {mail.server.host}:{mail.server.port}"
