"""What identity providers say of themselves, read by the identity server, which will talk to them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from keycloak import KeycloakAdmin
from keycloak.exceptions import KeycloakConnectionError

from domicile.controllers.realm.desired import Desired
from domicile.controllers.realm.sessions import VOUCHER

Object = dict[str, Any]
Endpoints = Mapping[str, str]

_WELL_KNOWN = "/.well-known/openid-configuration"
# What is taken from metadata, by kind of provider: what it needs, and what else it may have.
_NEEDED = {"oidc": ("authorizationUrl", "tokenUrl", "jwksUrl"), "saml": ("singleSignOnServiceUrl",)}
_MORE = {"oidc": ("userInfoUrl", "logoutUrl"), "saml": ("singleLogoutServiceUrl", "idpEntityId", "signingCertificate")}
# Of these the ones that Keycloak, too, wants to be URLs with https: it refuses a provider otherwise, and with it the
# realm could not be mended.
_URLS = {"oidc": ("userInfoUrl", "logoutUrl"), "saml": ("singleLogoutServiceUrl",)}
_URL = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:[/?][!-~]*)?", re.ASCII)
# By what a provider is known to be the same as before.
_ANCHOR = {"oidc": "issuer", "saml": "metadataDescriptorUrl"}
# Who vouches for a provider's people. The realm remembers it: an account is known by the provider's name and a subject,
# which is somebody else where somebody else vouches for it.
_VOUCHES = {"oidc": "issuer", "saml": "idpEntityId"}


class _SilentError(Exception):
    """The metadata can't be had now."""


class _WrongError(Exception):
    """The metadata is not what it should be."""


async def complete(
    admin: KeycloakAdmin, desired: Desired, observed: Object, known: Mapping[str, Endpoints]
) -> tuple[Desired, Mapping[str, str], Mapping[str, Endpoints]]:
    """The realm with its providers' endpoints; what is wrong with which of them; the endpoints of the others.

    A provider that is silent keeps the endpoints that it named earlier (``known``, or else those in the realm) as long
    as it is the same one. One without endpoints is left out, and so closed; so is one for whose people somebody else
    vouched before.
    """
    present = {p["alias"]: p["config"] for p in observed["identityProviders"]}
    answers = await asyncio.gather(*(_ask(admin, desired, p) for p in desired.providers), return_exceptions=True)
    providers: list[Object] = []
    faults: dict[str, str] = {}
    found: dict[str, Endpoints] = {}
    marks = {k: v for k, v in observed.get("attributes", {}).items() if k.startswith(VOUCHER)}
    for provider, answer in zip(desired.providers, answers, strict=True):
        alias, config, kind = provider["alias"], provider["config"], provider["providerId"]
        anchor = _ANCHOR[kind]
        endpoints: Endpoints = {}
        if isinstance(answer, _SilentError | _WrongError):
            faults[alias] = str(answer)
            earlier = known.get(alias) or present.get(alias, {})
            if isinstance(answer, _SilentError) and anchor in config and earlier.get(anchor) == config[anchor]:
                endpoints = {k: earlier[k] for k in (anchor, *_NEEDED[kind], *_MORE[kind]) if k in earlier}
        elif isinstance(answer, BaseException):
            raise answer
        else:
            endpoints = answer
        if not endpoints:
            continue
        mark, voucher = f"{VOUCHER}{alias}", endpoints.get(_VOUCHES[kind]) or endpoints.get(anchor, "")
        if marks.setdefault(mark, voucher) != voucher:
            faults[alias] = (
                f"The name {alias} is taken: its accounts are those of {marks[mark]}, and {voucher} would get them. Use"
                " another name."
            )
            continue
        found[alias] = endpoints
        providers.append({**provider, "config": {**config, **endpoints}})
    settings = {**desired.settings, "attributes": {**desired.settings["attributes"], **marks}}
    return replace(desired, providers=tuple(providers), settings=settings), faults, found


async def _ask(admin: KeycloakAdmin, desired: Desired, provider: Object) -> Endpoints:
    """What the provider's metadata says. Raises _SilentError, _WrongError."""
    kind, config = provider["providerId"], provider["config"]
    text = desired.metadata.get(provider["alias"])
    url = config.get("metadataDescriptorUrl") or f"{config.get('issuer', '').removesuffix('/')}{_WELL_KNOWN}"
    where = "in its Secret" if text else f"at {url}"
    source = _import_text(admin, desired.name, kind, text) if text else _import_url(admin, desired.name, kind, url)
    said = await source
    if kind == "oidc" and said.get("issuer") != config["issuer"]:
        raise _WrongError(
            f"The metadata {where} names another issuer than {config['issuer']}. Correct oidc.issuer, or what it is"
            " made of: entra.tenantId, okta.domain and authorizationServer, oneLogin.subdomain."
        )
    if kind == "saml":
        _require_signer(said.get("signingCertificate"), where)
    asked = (*_NEEDED[kind], *(k for k in _URLS[kind] if said.get(k)))
    if missing := [k for k in asked if not _URL.fullmatch(str(said.get(k, "")))]:
        raise _WrongError(f"The metadata {where} lacks {', '.join(missing)} with https.")
    anchor = {k: config[k] for k in (_ANCHOR[kind],) if k in config}
    return anchor | {k: said[k] for k in (*_NEEDED[kind], *_MORE[kind]) if said.get(k)}


async def _import_url(admin: KeycloakAdmin, realm: str, kind: str, url: str) -> Object:
    body = json.dumps({"fromUrl": url, "providerId": kind})
    silent = f"The identity server can't read the metadata at {url}. Check the URL, its certificate and the network."
    try:
        answer = await admin.connection.a_raw_post(_path(realm), data=body)
    except KeycloakConnectionError:
        # It has waited for the provider longer than we wait for it.
        raise _SilentError(silent) from None
    if answer.status_code != 200:
        raise _SilentError(silent)
    said: Object = answer.json()
    return said


async def _import_text(admin: KeycloakAdmin, realm: str, kind: str, text: str) -> Object:
    connection = admin.connection
    # python-keycloak says application/json of every body.
    answer = await connection.async_s.post(
        f"{connection.base_url}{_path(realm)}",
        data={"providerId": kind},
        files={"file": ("metadata.xml", text, "text/xml")},
        headers={"Authorization": connection.param_headers("Authorization") or ""},
        timeout=connection.timeout,
    )
    if answer.status_code != 200:
        raise _WrongError("The metadata in its Secret can't be read. Is it the provider's whole EntityDescriptor?")
    said: Object = answer.json()
    return said


def _path(realm: str) -> str:
    return f"admin/realms/{realm}/identity-provider/import-config"


def _require_signer(certificates: str | None, where: str) -> None:
    """Without a certificate anybody's assertion would do, and an expired one is refused at each login."""
    if not certificates:
        raise _WrongError(f"The metadata {where} holds no certificate that signs assertions.")
    for text in certificates.split(","):
        try:
            until = x509.load_der_x509_certificate(base64.b64decode(text)).not_valid_after_utc
        except ValueError:
            raise _WrongError(f"A certificate of the metadata {where} can't be read.") from None
        if until > datetime.now(UTC):
            return
    raise _WrongError(f"Every signing certificate of the metadata {where} has expired. Get the provider's new one.")
