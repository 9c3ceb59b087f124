"""LDAP directories of a realm: user federation that only reads, and roles by the directory's groups.

Sources: https://www.keycloak.org/docs-api/latest/rest-api/ (ComponentRepresentation) and the Server Administration
Guide, "Lightweight Directory Access Protocol (LDAP) and Active Directory". Keycloak gives roles by a directory's groups
through groups of its own: ``/<directory>/<group>`` has the roles, and its members are read from the directory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domicile.api.sso import Directory, DirectoryVendor
from domicile.controllers.realm.providers import grant

Object = dict[str, Any]

USER_STORAGE = "org.keycloak.storage.UserStorageProvider"
ATTRIBUTE_MAPPER = "user-attribute-ldap-mapper"
LDAP_MAPPER = "org.keycloak.storage.ldap.mappers.LDAPStorageMapper"
_SCHEMA = {
    DirectoryVendor.OTHER: {
        "vendor": "other",
        "usernameLDAPAttribute": "uid",
        "rdnLDAPAttribute": "uid",
        "uuidLDAPAttribute": "entryUUID",
        "userObjectClasses": "inetOrgPerson",
    },
    DirectoryVendor.ACTIVE_DIRECTORY: {
        "vendor": "ad",
        "usernameLDAPAttribute": "sAMAccountName",
        "rdnLDAPAttribute": "cn",
        "uuidLDAPAttribute": "objectGUID",
        "userObjectClasses": "person, organizationalPerson, user",
    },
}
_GROUP_CLASS = {DirectoryVendor.OTHER: "groupOfNames", DirectoryVendor.ACTIVE_DIRECTORY: "group"}


@dataclass(frozen=True)
class Federation:
    """A directory as a component of the realm, the mappers that promises rest on, and the roles of each group."""

    component: Object
    mappers: tuple[Object, ...]
    groups: Mapping[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """Name of the directory."""
        return str(self.component["name"])

    @property
    def id(self) -> str:
        """Id of its component."""
        return str(self.component["id"])


def build(directory: Directory, password: str, roles: tuple[str, ...], tenant_id: str) -> Federation:
    """The directory as Keycloak's user federation. Grants of assistants that are not in ``roles`` are left out.

    The component's id follows from tenant and name: names are not unique, and people belong to the id they came from.
    """
    groups: dict[str, set[str]] = {}
    for mapping in directory.role_mappings:
        wanted = {mapping.role.value, *(grant(a) for a in mapping.assistants)}
        groups.setdefault(mapping.group, set()).update(wanted & set(roles))
    component = {
        "id": hashlib.sha256(f"{tenant_id} {directory.name}".encode()).hexdigest()[:32],
        "name": directory.name,
        "providerId": "ldap",
        "providerType": USER_STORAGE,
        "config": _listed(
            {
                **_SCHEMA[directory.vendor],
                "enabled": "true",
                "priority": "0",
                "connectionUrl": directory.url,
                "startTls": "false",
                "useTruststoreSpi": "always",
                "authType": "simple",
                "bindDn": directory.bind_dn,
                "bindCredential": password,
                "usersDn": directory.users_dn,
                "searchScope": "2",
                "editMode": "READ_ONLY",
                "importEnabled": "true",
                "syncRegistrations": "false",
                "trustEmail": "false",
                "validatePasswordPolicy": "false",
                "pagination": "true",
                "connectionPooling": "true",
                "connectionTimeout": "3000",
                "readTimeout": "5000",
                "fullSyncPeriod": "-1",
                "changedSyncPeriod": "-1",
                # Who left the directory, or a group there, is seen within a minute.
                "cachePolicy": "MAX_LIFESPAN",
                "maxLifespan": "60000",
                "allowKerberosAuthentication": "false",
                "useKerberosForPasswordAuthentication": "false",
            }
        ),
    }
    mappers = [_groups(directory, sorted(groups)), _username(directory), _email_verified()]
    if directory.vendor is DirectoryVendor.ACTIVE_DIRECTORY:
        mappers.append(_account_control())
    return Federation(component, tuple(mappers), {g: tuple(sorted(r)) for g, r in groups.items()})


def _groups(directory: Directory, groups: list[str]) -> Object:
    return _mapper(
        "groups",
        "group-ldap-mapper",
        {
            "groups.dn": directory.groups_dn,
            "group.name.ldap.attribute": "cn",
            "group.object.classes": _GROUP_CLASS[directory.vendor],
            "groups.ldap.filter": f"(|{''.join(f'(cn={_escaped(g)})' for g in groups)})" if groups else _NO_GROUP,
            "groups.path": f"/{directory.name}",
            "membership.ldap.attribute": "member",
            "membership.attribute.type": "DN",
            "membership.user.ldap.attribute": _SCHEMA[directory.vendor]["usernameLDAPAttribute"],
            "preserve.group.inheritance": "false",
            "ignore.missing.groups": "true",
            "mode": "READ_ONLY",
            "user.roles.retrieve.strategy": "LOAD_GROUPS_BY_MEMBER_ATTRIBUTE",
            "drop.non.existing.groups.during.sync": "false",
        },
    )


def _username(directory: Directory) -> Object:
    return _mapper(
        "username",
        ATTRIBUTE_MAPPER,
        {
            "user.model.attribute": "username",
            "ldap.attribute": _SCHEMA[directory.vendor]["usernameLDAPAttribute"],
            "is.mandatory.in.ldap": "true",
            "always.read.value.from.ldap": "false",
            "read.only": "true",
        },
    )


def _email_verified() -> Object:
    """The address of a directory's people is the directory's matter, also that of who came before this mapper."""
    config = {"user.model.attribute": "emailVerified", "attribute.value": "true"}
    return _mapper("email verified", "hardcoded-attribute-mapper", config)


def _account_control() -> Object:
    """Who is disabled in the directory is disabled here; Keycloak makes it for new directories only."""
    config = {"always.read.enabled.value.from.ldap": "true"}
    return _mapper("MSAD account controls", "msad-user-account-control-mapper", config)


def _mapper(name: str, provider: str, config: Mapping[str, str]) -> Object:
    """Those that Keycloak makes itself have the names that it gives them."""
    return {"name": name, "providerId": provider, "providerType": LDAP_MAPPER, "config": _listed(config)}


_NO_GROUP = "(!(cn=*))"


def _listed(config: Mapping[str, str]) -> dict[str, list[str]]:
    return {k: [v] for k, v in config.items()}


def _escaped(value: str) -> str:
    """The value in an LDAP filter (RFC 4515, section 3)."""
    return "".join(f"\\{b:02x}" if chr(b) in "*()\\\0" or b > 126 else chr(b) for b in value.encode())
