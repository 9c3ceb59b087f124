"""An identity server (Keycloak): connections to its Admin REST API, and what its errors mean.

A connection of python-keycloak carries the realm that it speaks of, so each is lent to one task at a time.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from keycloak import KeycloakAdmin, KeycloakOpenIDConnection
from keycloak.exceptions import KeycloakAuthenticationError, KeycloakConnectionError, KeycloakError
from pydantic import Field, ValidationError

from domicile.api.common import Model
from domicile.api.zone import MailServer
from domicile.controllers.realm.mail import Mail, MailAccount, MailAccountError

Object = dict[str, Any]

# Creating a realm takes seconds and a core of the server; more at a time only wait there.
_CONNECTIONS = 4
_TIMEOUT_SECONDS = 20


class IdentityError(Exception):
    """The identity server could not be used; the text is fit for a condition."""

    reason = "IdentityServerFailed"


class UnreachableError(IdentityError):
    """It does not answer."""

    reason = "IdentityServerUnreachable"


class RefusedError(IdentityError):
    """It does not let this operator in."""

    reason = "IdentityServerRefused"


class Account(Model):
    """The operator's own client at the identity server: a service account that may create realms."""

    client_id: Annotated[str, Field(description="Client id in the realm master.")]
    client_secret: Annotated[str, Field(description="Its secret.")]


def load_account(folder: Path, zone: str) -> tuple[Account, Path | None]:
    """The account for a zone's identity server from ``<zone>.json``, and its CA bundle ``<zone>.pem``, if there is one.

    Raises RefusedError where there is none, or either says something else.
    """
    path, bundle = folder / f"{zone}.json", folder / f"{zone}.pem"
    try:
        account = Account.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise RefusedError(
            f"The operator has no account for the identity server of zone {zone}: put {path.name} with clientId and"
            " clientSecret into its Secret of identity accounts."
        ) from None
    if not bundle.exists():
        return account, None
    load_bundle(bundle)
    return account, bundle


def load_bundle(path: Path) -> str:
    """The certificates of a CA bundle (PEM). Raises RefusedError where it is none."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        raise RefusedError(
            f"{path.name} in the operator's Secret of identity accounts holds no certificates in PEM: put the"
            " authorities there that vouch for the identity server, or remove it to go by the system's."
        ) from None
    return "".join(c.public_bytes(serialization.Encoding.PEM).decode() for c in found)


def load_mail(folder: Path, server: MailServer) -> Mail:
    """The mail server with its account from ``<account>.mail.json``. Raises MailAccountError."""
    if server.account is None:
        return Mail(server)
    path = folder / f"{server.account}.mail.json"
    try:
        return Mail(server, MailAccount.model_validate_json(path.read_bytes()))
    except (OSError, ValidationError):
        raise MailAccountError(
            f"The operator has no account for the mail server {server.host}: put {path.name} with user and password,"
            " both in ASCII, into its Secret of identity accounts, or take account out of spec.identity.mail."
        ) from None


class IdentityServer:
    """One Keycloak. Its methods raise IdentityError."""

    def __init__(
        self,
        url: str,
        account: Account,
        verify: str | bool,
        certificate: str | None = None,
        proxy: str | None = None,
    ) -> None:
        """``url`` is the base of ``/admin`` and ``/realms``; ``verify`` a CA bundle, or True for the system's;
        ``certificate`` a file of the client's certificate and its key, for a gate that wants one; ``proxy`` the URL of
        one that leads there.
        """
        self.url = url.rstrip("/")
        self._free: asyncio.Queue[KeycloakAdmin] = asyncio.Queue()
        for _ in range(_CONNECTIONS):
            self._free.put_nowait(self._connect(account, verify, certificate, proxy))

    def _connect(
        self, account: Account, verify: str | bool, certificate: str | None, proxy: str | None
    ) -> KeycloakAdmin:
        connection = KeycloakOpenIDConnection(
            server_url=f"{self.url}/",
            client_id=account.client_id,
            client_secret_key=account.client_secret,
            user_realm_name="master",
            verify=verify,
            cert=certificate,
            timeout=_TIMEOUT_SECONDS,
        )
        if proxy is not None:
            trusted = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
            # python-keycloak takes none: it asks by its own client, and for tokens by another one.
            for manager in (connection, connection.keycloak_openid.connection):
                manager.async_s = httpx.AsyncClient(verify=trusted, cert=certificate, proxy=proxy)
        return KeycloakAdmin(connection=connection)

    @asynccontextmanager
    async def realm(self, name: str) -> AsyncIterator[KeycloakAdmin]:
        """A connection that speaks of one realm."""
        admin = await self._free.get()
        try:
            admin.connection.realm_name = name
            yield admin
        except KeycloakAuthenticationError:
            raise RefusedError(
                f"The identity server {self.url} refuses the operator's account: check its client id and secret."
            ) from None
        except (KeycloakConnectionError, httpx.HTTPError) as error:
            cause = type(error.__cause__ or error).__name__
            raise UnreachableError(f"The identity server {self.url} does not answer ({cause}).") from None
        except (TypeError, LookupError, ValueError, AttributeError) as error:
            # python-keycloak's words of an answer that is no JSON, or of another shape, hold that answer.
            raise IdentityError(
                f"The identity server {self.url} gave an answer that makes no sense ({type(error).__name__}). Is there"
                " something else before it?"
            ) from None
        except KeycloakError as error:
            if error.response_code == 403:
                raise RefusedError(
                    f"The identity server {self.url} lets the operator's account do too little: it needs the role"
                    " create-realm, and lightweight access tokens."
                ) from None
            raise IdentityError(
                f"The identity server {self.url} answered {error.response_code}: {_words(error)}"
            ) from None
        finally:
            self._free.put_nowait(admin)

    async def close(self) -> None:
        """Close all connections, each when it is given back."""
        for _ in range(_CONNECTIONS):
            admin = await self._free.get()
            await admin.connection.keycloak_openid.connection.aclose()
            await admin.connection.aclose()


def _words(error: KeycloakError) -> str:
    """What the server said was wrong; never what it was sent."""
    try:
        answer = json.loads(error.response_body or b"")
    except ValueError:
        return "no reason given"
    told = answer.get("errorMessage") or answer.get("error_description") or answer.get("error")
    return str(told or "no reason given")[:200]
