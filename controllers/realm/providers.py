"""Identity providers of a realm and what their people become: pure functions of the spec.

Sources: https://www.keycloak.org/docs-api/latest/rest-api/ (IdentityProviderRepresentation, IdentityProviderMapper-
Representation) and the Server Administration Guide, "Integrating identity providers".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from domicile.api.sso import IdentityProvider, OidcProvider, SamlProvider
from domicile.controllers.realm.flows import FEDERATED
from domicile.controllers.realm.profiles import Upstream

Object = dict[str, Any]

GRANT_PREFIX = "assistant."
_NOBODY = "(?!)"


def grant(assistant: str) -> str:
    """Name of the role that shows one assistant to a manager."""
    return f"{GRANT_PREFIX}{assistant}"


def build(upstream: Upstream, secret: str, first: str, after: str) -> Object:
    """The provider without what its metadata says; ``first`` and ``after``: flows of its people's logins."""
    provider = upstream.provider
    config = _oidc(provider.oidc, secret, upstream) if provider.oidc else _saml(provider.saml)
    return {
        "alias": provider.name,
        "displayName": provider.display_name or provider.name,
        "providerId": "oidc" if provider.oidc else "saml",
        "enabled": True,
        "trustEmail": False,
        "storeToken": False,
        "linkOnly": False,
        "hideOnLogin": False,
        "authenticateByDefault": False,
        "firstBrokerLoginFlowAlias": first,
        "postBrokerLoginFlowAlias": after,
        "config": {"syncMode": "FORCE", "validateSignature": "true", **config},
    }


def _oidc(oidc: OidcProvider, secret: str, upstream: Upstream) -> dict[str, str]:
    only = {"filteredByClaim": "false"}
    if upstream.only:
        only = {
            "filteredByClaim": "true",
            "claimFilterName": upstream.only.claim,
            "claimFilterValue": "|".join(quoted(v) for v in upstream.only.values),
        }
    return {
        "issuer": oidc.issuer,
        "clientId": oidc.client_id,
        "clientSecret": secret,
        "clientAuthMethod": upstream.authentication,
        "defaultScope": " ".join(("openid", "profile", "email", *upstream.scopes)),
        "pkceEnabled": "true",
        "pkceMethod": "S256",
        "useJwksUrl": "true",
        **only,
    }


def _saml(saml: SamlProvider | None) -> dict[str, str]:
    by_url = {"useMetadataDescriptorUrl": "true", "metadataDescriptorUrl": saml.metadata_url or ""} if saml else {}
    return {
        "wantAssertionsSigned": "true",
        "wantAuthnRequestsSigned": "true",
        "signatureAlgorithm": "RSA_SHA256",
        "nameIDPolicyFormat": "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent",
        "principalType": "SUBJECT",
        "postBindingAuthnRequest": "true",
        "postBindingResponse": "true",
        "allowedClockSkew": "30",
        **(by_url if saml and saml.metadata_url else {}),
    }


def mappers(provider: IdentityProvider, roles: tuple[str, ...]) -> tuple[Object, ...]:
    """One mapper for each role, with a group or without: a role is taken away by its mapper only."""
    groups: dict[str, set[str]] = {role: set() for role in roles}
    for mapping in provider.role_mappings:
        for role in (mapping.role.value, *(grant(a) for a in mapping.assistants)):
            groups.get(role, set()).add(mapping.group)
    kind, subject = ("oidc", "CLAIM.sub") if provider.oidc else ("saml", "NAMEID")
    username = {"template": f"${{ALIAS}}.${{{subject}}}", "target": "LOCAL"}
    return (
        _mapper(provider, "username", f"{kind}-username-idp-mapper", username),
        _mapper(provider, FEDERATED, "oidc-hardcoded-role-idp-mapper", {"role": FEDERATED}),
        # Nothing here needs their address, and to verify it would be the provider's matter.
        _mapper(provider, "no-email", "hardcoded-attribute-idp-mapper", {"attribute": "email", "attribute.value": ""}),
        *(
            _mapper(provider, role, f"{kind}-advanced-role-idp-mapper", {"role": role, **_of_groups(provider, names)})
            for role, names in groups.items()
        ),
    )


def _of_groups(provider: IdentityProvider, groups: set[str]) -> dict[str, str]:
    pattern = "|".join(quoted(g) for g in sorted(groups)) or _NOBODY
    if provider.oidc:
        claims = [{"key": provider.oidc.groups_claim, "value": pattern}]
        return {"claims": json.dumps(claims), "are.claim.values.regex": "true"}
    attribute = provider.saml.groups_attribute if provider.saml else ""
    return {
        "attributes": json.dumps([{"key": attribute, "value": pattern}]),
        "are.attribute.values.regex": "true",
    }


def _mapper(provider: IdentityProvider, name: str, kind: str, config: Mapping[str, str]) -> Object:
    return {
        "name": name,
        "identityProviderAlias": provider.name,
        "identityProviderMapper": kind,
        "config": {"syncMode": "FORCE", **config},
    }


def quoted(text: str) -> str:
    """The text as a pattern of java.util.regex that matches it alone."""
    return re.sub(r"([^A-Za-z0-9])", r"\\\1", text)
