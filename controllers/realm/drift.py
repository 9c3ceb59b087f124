"""Where a realm is not as desired: a pure comparison of what should be with Keycloak's export of what is.

The export (POST /admin/realms/{realm}/partial-export) shows all but people and secrets, which it masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from domicile.controllers.realm.desired import CLIENT, Desired
from domicile.controllers.realm.directories import ATTRIBUTE_MAPPER, LDAP_MAPPER, USER_STORAGE, Federation
from domicile.controllers.realm.flows import FEDERATED, PREFIX, Flow
from domicile.controllers.realm.providers import GRANT_PREFIX

Object = dict[str, Any]

_KEYS = "org.keycloak.keys.KeyProvider"
# Clients that Keycloak itself needs in a realm, both only to check tokens.
KEPT_CLIENTS = frozenset({"broker", "realm-management"})
_SECRETS = {"secret", "clientSecret", "bindCredential", "password"}
# Settings that are compared both ways: what nobody asked for would count.
_WHOLE = {"smtpServer"}
# Mappers that only copy from a directory what nothing here decides by, and the attributes that such may fill.
_PLAIN_MAPPERS = frozenset({"full-name-ldap-mapper", "kerberos-principal-attribute-mapper"})
_PLAIN_ATTRIBUTES = frozenset({"firstName", "lastName", "email", "createTimestamp", "modifyTimestamp"})
# What Keycloak itself notes on a client.
NOTES = frozenset({"client.secret.creation.time", "realm_client"})
# What Keycloak itself notes on a directory; it counts with Kerberos only.
COMPONENT_NOTES = frozenset({"krbPrincipalAttribute"})


class Spare(NamedTuple):
    """Something that nobody asked for and that would be a way in, or a way up."""

    kind: str
    name: str
    id: str


@dataclass(frozen=True)
class Drift:
    """What is to be mended; empty where the realm is as desired.

    ``mappers``: providers whose mappers are missing or other than desired. ``old_flows``: flows of ours that nothing
    uses any more.
    """

    settings: tuple[str, ...] = ()
    flows: tuple[Flow, ...] = ()
    roles: tuple[str, ...] = ()
    client: tuple[str, ...] = ()
    scope: bool = False
    providers: tuple[str, ...] = ()
    mappers: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    old_flows: tuple[str, ...] = ()
    spare: tuple[Spare, ...] = ()

    def told(self) -> tuple[str, ...]:
        """Each difference in a word or two, for a person."""
        return (
            *(f"setting {s}" for s in self.settings),
            *(f"flow {f.purpose}" for f in self.flows),
            *(f"role {r}" for r in self.roles),
            *(f"client {CLIENT} ({c})" for c in self.client),
            *(("scope of the client",) if self.scope else ()),
            *(f"identity provider {p}" for p in self.providers),
            *(f"role mappings of {p}" for p in self.mappers),
            *(f"directory {d}" for d in self.directories),
            *(f"required action {a}" for a in self.actions),
            *(f"old flow {f}" for f in self.old_flows),
            *(f"{s.kind} {s.name} (not asked for)" for s in self.spare),
        )


def compare(desired: Desired, observed: Object) -> Drift:
    """What differs between a realm as desired and its export."""
    clients = {c["clientId"]: c for c in observed.get("clients", [])}
    known = {p["alias"]: p for p in observed.get("identityProviders", [])}
    return Drift(
        settings=tuple(k for k, v in desired.settings.items() if not _same_setting(k, observed.get(k), v)),
        flows=tuple(f for f in desired.flows if _steps(observed, f.alias) != [s.to_wire() for s in f.steps]),
        roles=tuple(r for r in desired.roles if r not in {o["name"] for o in _roles(observed)}),
        client=_client(desired.client, clients.get(CLIENT)),
        scope=_scope(observed) != set(desired.roles) - {FEDERATED},
        providers=tuple(p["alias"] for p in desired.providers if not _same_config(known.get(p["alias"]), p)),
        mappers=tuple(p["alias"] for p in desired.providers if not _same_mappers(desired, observed, p["alias"])),
        directories=tuple(f.name for f in desired.federations if not _same_federation(f, observed)),
        actions=tuple(sorted(desired.actions - {a["alias"] for a in _actions(observed)})),
        old_flows=_old_flows(desired, observed),
        spare=tuple(
            Spare(*found)
            for look in (_providers, _mappings, _clients, _composites, _grants, _groups, _components, _more_actions)
            for found in look(desired, observed)
        ),
    )


def holds(observed: Any, desired: Any) -> bool:
    """Whether an observed value holds every desired one. Masked secrets can't be told and count as equal.

    An export leaves out much of what is empty or off.
    """
    if desired is False or desired in ("", []):
        return observed is None or (type(observed) is type(desired) and bool(observed == desired))
    if isinstance(desired, Mapping):
        return isinstance(observed, Mapping) and all(
            k in _SECRETS or holds(observed.get(k), v) for k, v in desired.items()
        )
    if isinstance(desired, list):
        return isinstance(observed, list) and sorted(map(str, observed)) == sorted(map(str, desired))
    return type(observed) is type(desired) and bool(observed == desired)


def _same_setting(name: str, observed: Any, desired: Any) -> bool:
    if name not in _WHOLE:
        return holds(observed, desired)
    return holds(observed or {}, desired) and _filled(observed or {}) == _filled(desired)


def ours(mappers: Iterable[Object], wanted: Object) -> Object | None:
    """Which of the mappers of the wanted one's name and kind counts as it; None where there is none.

    Names of components are not unique: one that is as wanted comes first.
    """
    same = [m for m in mappers if (m["name"], m["providerId"]) == (wanted["name"], wanted["providerId"])]
    return min(same, key=lambda m: (not _same_component(m, wanted), m["id"]), default=None)


def _same_component(observed: Object, desired: Object) -> bool:
    """What says where a component stands, an export leaves out."""
    shown = {k: v for k, v in desired.items() if k != "providerType"}
    keys = _filled(observed["config"]) - COMPONENT_NOTES
    return holds(observed, shown) and keys == _filled(desired["config"])


def _on(component: Object) -> bool:
    return bool(component["config"].get("enabled") != ["false"])


def _filled(values: Mapping[str, Any]) -> set[str]:
    return {k for k, v in values.items() if v not in ("", None)}


def _client(desired: Object, observed: Object | None) -> tuple[str, ...]:
    if observed is None:
        return ("missing",)
    exact = {"protocolMappers", "authenticationFlowBindingOverrides"}
    differing = [k for k, v in desired.items() if k not in _SECRETS | exact and not holds(observed.get(k), v)]
    if "attributes" not in differing and _filled(observed["attributes"]) - NOTES != _filled(desired["attributes"]):
        differing.append("attributes")
    if _filled(observed.get("authenticationFlowBindingOverrides", {})):
        differing.append("authenticationFlowBindingOverrides")
    mappers = {m["name"]: m for m in observed.get("protocolMappers", [])}
    wanted = {m["name"]: m for m in desired["protocolMappers"]}
    if mappers.keys() != wanted.keys() or any(not _same_config(mappers[n], m) for n, m in wanted.items()):
        differing.append("protocolMappers")
    return tuple(differing)


def _same_config(observed: Object | None, desired: Object) -> bool:
    """Config is compared both ways: a looser check or another endpoint would be one key more."""
    return (
        observed is not None and holds(observed, desired) and _filled(observed["config"]) == _filled(desired["config"])
    )


def _same_mappers(desired: Desired, observed: Object, alias: str) -> bool:
    known = {m["name"]: m for m in _provider_mappers(observed) if m["identityProviderAlias"] == alias}
    return all(_same_config(known.get(m["name"]), m) for m in desired.mappers[alias])


def _same_federation(federation: Federation, observed: Object) -> bool:
    """The directory's component, its mappers and the roles of its groups."""
    found = _storage(federation, observed)
    if found is None or not _same_component(found, federation.component):
        return False
    for mapper in federation.mappers:
        present = ours(_directory_mappers(found), mapper)
        if present is None or not _same_component(present, mapper):
            return False
    roles = {g["path"]: sorted(g.get("realmRoles", [])) for g in _all_groups(observed)}
    return all(roles.get(f"/{federation.name}/{g}") == sorted(r) for g, r in federation.groups.items())


def _storages(observed: Object) -> list[Object]:
    listed: list[Object] = observed.get("components", {}).get(USER_STORAGE, [])
    return listed


def _storage(federation: Federation, observed: Object) -> Object | None:
    return next((c for c in _storages(observed) if c["id"] == federation.id), None)


def _directory_mappers(storage: Object) -> list[Object]:
    listed: list[Object] = storage.get("subComponents", {}).get(LDAP_MAPPER, [])
    return listed


def _all_groups(observed: Object) -> Iterator[Object]:
    def walk(groups: list[Object]) -> Iterator[Object]:
        for group in groups:
            yield group
            yield from walk(group.get("subGroups", []))

    return walk(observed.get("groups", []))


def _provider_mappers(observed: Object) -> list[Object]:
    listed: list[Object] = observed.get("identityProviderMappers", [])
    return listed


def _roles(observed: Object) -> list[Object]:
    listed: list[Object] = observed.get("roles", {}).get("realm", [])
    return listed


def _scope(observed: Object) -> set[str]:
    of_realm = {r for m in observed.get("scopeMappings", []) if m.get("client") == CLIENT for r in m["roles"]}
    of_clients = {
        f"{owner}/{role}"
        for owner, mappings in observed.get("clientScopeMappings", {}).items()
        for m in mappings
        if m.get("client") == CLIENT
        for role in m["roles"]
    }
    return of_realm | of_clients


def _actions(observed: Object) -> list[Object]:
    return [a for a in observed.get("requiredActions", []) if a.get("enabled")]


_Found = Iterator[tuple[str, str, str]]


def _providers(desired: Desired, observed: Object) -> _Found:
    """Open ones, and closed ones that still hold a flow of ours in use."""
    wanted = {p["alias"] for p in desired.providers}
    for p in observed.get("identityProviders", []):
        closed = not p.get("enabled", True) and p.get("postBrokerLoginFlowAlias") == desired.closed_flow
        if p["alias"] not in wanted and not closed:
            yield "identity provider", p["alias"], p["alias"]


def _mappings(desired: Desired, observed: Object) -> _Found:
    for m in _provider_mappers(observed):
        alias = m["identityProviderAlias"]
        if alias in desired.mappers and m["name"] not in {d["name"] for d in desired.mappers[alias]}:
            yield "role mapping", f"{alias}/{m['name']}", m["id"]


def _clients(_: Desired, observed: Object) -> _Found:
    for c in observed.get("clients", []):
        name = c["clientId"]
        harmless = c.get("bearerOnly") if name in KEPT_CLIENTS else not c.get("enabled", True)
        if name != CLIENT and not harmless:
            yield "client", name, c["id"]


def _composites(_: Desired, observed: Object) -> _Found:
    for r in _roles(observed):
        if r.get("composites"):
            yield "composite role", r["name"], r["id"]


def _grants(desired: Desired, observed: Object) -> _Found:
    """Grants of assistants that are gone: who had one must not have it again when the name comes back."""
    for r in _roles(observed):
        if r["name"].startswith(GRANT_PREFIX) and r["name"] not in desired.roles:
            yield "grant", r["name"], r["id"]


def _groups(desired: Desired, observed: Object) -> _Found:
    """Roles come by provider, directory or person: another group with a role, or one of everybody, is a way more."""
    defaults = set(observed.get("defaultGroups") or [])
    ours = {f"/{f.name}/{g}" for f in desired.federations for g in f.groups}
    for group in _all_groups(observed):
        if group["path"] in defaults:
            yield "default group", group["name"], group["id"]
        if group.get("clientRoles") or (group.get("realmRoles") and group["path"] not in ours):
            yield "group with roles", group["name"], group["id"]


def _components(desired: Desired, observed: Object) -> _Found:
    kept = set(_kept(desired, observed))
    for c in _storages(observed):
        if c["id"] not in kept and _on(c):
            yield "user storage", c["name"], c["id"]
        for m in _directory_mappers(c):
            if m["id"] not in kept and not _plain(m):
                yield "directory mapping", f"{c['name']}/{m['name']}", m["id"]
    for c in observed.get("components", {}).get(_KEYS, []):
        if not c["providerId"].endswith("-generated") and _on(c):
            yield "signing key", c["name"], c["id"]


def _kept(desired: Desired, observed: Object) -> Iterator[str]:
    """Ids of the directories that are asked for, and of their mappers."""
    for federation in desired.federations:
        yield federation.id
        if (found := _storage(federation, observed)) is not None:
            yield from (m["id"] for w in federation.mappers if (m := ours(_directory_mappers(found), w)))


def _plain(mapper: Object) -> bool:
    if mapper["providerId"] != ATTRIBUTE_MAPPER:
        return mapper["providerId"] in _PLAIN_MAPPERS
    return set(mapper["config"].get("user.model.attribute", [])) <= _PLAIN_ATTRIBUTES


def _more_actions(desired: Desired, observed: Object) -> _Found:
    for a in _actions(observed):
        if a["alias"] not in desired.actions:
            yield "required action", a["alias"], a["alias"]


def _old_flows(desired: Desired, observed: Object) -> tuple[str, ...]:
    used = {f.alias for f in desired.flows}
    listed = [f["alias"] for f in observed.get("authenticationFlows", []) if f.get("topLevel")]
    return tuple(sorted(a for a in listed if a.startswith(PREFIX) and a not in used))


def _steps(observed: Object, alias: str) -> list[Any] | None:
    """A flow of an export in the form of ``to_wire``; None where it is missing."""
    flows = {f["alias"]: f for f in observed.get("authenticationFlows", [])}
    configs = {c["alias"]: c["config"] for c in observed.get("authenticatorConfig", [])}
    if alias not in flows:
        return None

    def read(name: str) -> list[Any]:
        out: list[Any] = []
        for execution in sorted(flows[name].get("authenticationExecutions", []), key=lambda e: int(e["priority"])):
            requirement = execution["requirement"]
            if execution.get("authenticatorFlow"):
                part = execution["flowAlias"]
                out.append([part.removeprefix(f"{alias} "), requirement, read(part)])
            else:
                config = configs.get(execution.get("authenticatorConfig", ""), {})
                out.append([execution["authenticator"], requirement, config])
        return out

    return read(alias)
