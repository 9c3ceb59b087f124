"""The realm that a spec asks for, and what counts as another one; logins themselves are tested on a real Keycloak."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.api.sso import IdentityProvider, Mfa, MfaMode, OidcProvider, PersonRole, RoleMapping, Session, Sso
from domicile.api.zone import MailServer
from domicile.controllers.realm import birth, flows
from domicile.controllers.realm.desired import Desired, Subject, build, realm_name
from domicile.controllers.realm.drift import Drift, compare, holds
from domicile.controllers.realm.flows import Flow, Part, Step
from domicile.controllers.realm.mail import Mail, MailAccount
from domicile.controllers.realm.providers import grant
from domicile.controllers.realm.sessions import must_end

SUBJECT = Subject(
    tenant="bank",
    tenant_id="0123456789abcdef0123456789abcdef",
    assistants=("helpdesk", "sales"),
    host="bank.example",
    client_secret="door",
    secrets={"corp": "s"},
)


def provider(name: str = "corp", mfa: Mfa | None = None, *mappings: RoleMapping) -> IdentityProvider:
    oidc = OidcProvider(issuer="https://login.example", client_id="c", client_secret=name)
    return IdentityProvider(name=name, oidc=oidc, mfa=mfa or Mfa(mode=MfaMode.LOCAL), role_mappings=list(mappings))


def mappers(desired: Desired, alias: str = "corp") -> dict[str, dict[str, Any]]:
    return {m["name"]: m for m in desired.mappers[alias]}


def steps(flow: Flow) -> list[Step]:
    found: list[Step] = []

    def walk(inside: tuple[Step | Part, ...]) -> None:
        for step in inside:
            if isinstance(step, Part):
                walk(step.steps)
            else:
                found.append(step)

    walk(flow.steps)
    return found


def test_the_realms_name_follows_the_tenants_identity() -> None:
    assert realm_name("bank", "0123456789abcdef") == "bank-01234567"
    assert build(SUBJECT, Sso()).name == "bank-01234567"


@pytest.mark.parametrize("local_users", [True, False])
def test_every_flow_leads_through_the_second_level_or_nowhere(local_users: bool) -> None:
    proof = Mfa(mode=MfaMode.UPSTREAM, claim="amr", values=["mfa"])
    both = [provider("corp"), provider("other", proof)]
    assert {f.purpose for f in build(SUBJECT, Sso()).flows} == {"browser", "closed"}
    desired = build(SUBJECT, Sso(local_users=local_users, identity_providers=both))
    purposes = {f.purpose for f in desired.flows}
    assert purposes == {"browser", "closed", "first-login", "after-login-local", "after-login-upstream"}
    for flow in desired.flows:
        levels = {s.config.get("loa-condition-level") for s in steps(flow)} - {None}
        closed = any(s.provider == "deny-access-authenticator" for s in steps(flow))
        assert "2" in levels or closed or flow.purpose == "first-login", flow.purpose


def test_another_way_in_is_another_flow_and_another_session_length_is_none() -> None:
    aliases = {
        *(flows.browser(own=own, directories=some).alias for own in (True, False) for some in (True, False)),
        flows.after_login_local().alias,
        flows.after_login_upstream().alias,
    }
    assert len(aliases) == 6
    short = Sso(local_users=True, session=Session(idle_seconds=300, max_seconds=600))
    assert build(SUBJECT, short).flows == build(SUBJECT, Sso(local_users=True)).flows


def test_one_mapper_for_each_role_knows_all_its_groups() -> None:
    corp = provider(
        "corp",
        None,
        RoleMapping(group="a.b", role=PersonRole.MEMBER),
        RoleMapping(group="c|d", role=PersonRole.MEMBER),
        RoleMapping(group="m", role=PersonRole.MANAGER, assistants=["sales", "unknown"]),
    )
    found = mappers(build(SUBJECT, Sso(identity_providers=[corp])))
    people = {"owner", "admin", "manager", "member"}
    assert found.keys() == {"username", "federated", "no-email", *people, grant("sales"), grant("helpdesk")}
    [nobody] = json.loads(found["owner"]["config"]["claims"])
    assert not any(re.fullmatch(nobody["value"], g) for g in ("", "a", "owner"))
    [claim] = json.loads(found["member"]["config"]["claims"])
    assert [bool(re.fullmatch(claim["value"], g)) for g in ("a.b", "c|d", "aXb", "c", "d", "")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), st.text(max_size=40))
def test_a_group_matches_itself_alone(group: str, other: str) -> None:
    corp = provider("corp", None, RoleMapping(group=group, role=PersonRole.OWNER))
    found = mappers(build(SUBJECT, Sso(identity_providers=[corp])))["owner"]
    [claim] = json.loads(found["config"]["claims"])
    assert re.fullmatch(claim["value"], group)
    assert bool(re.fullmatch(claim["value"], other)) == (other == group)


def test_a_provider_that_proves_the_second_factor_is_filtered_by_it() -> None:
    proof = Mfa(mode=MfaMode.UPSTREAM, claim="amr", values=["mfa", "hwk"])
    subject = replace(SUBJECT, secrets={"corp": "s", "own": "t"})
    desired = build(subject, Sso(identity_providers=[provider("corp", proof), provider("own")]))
    corp, own = desired.providers
    assert corp["config"]["filteredByClaim"] == "true"
    assert (corp["config"]["claimFilterName"], corp["config"]["claimFilterValue"]) == ("amr", "hwk|mfa")
    assert own["config"]["filteredByClaim"] == "false"
    assert corp["postBrokerLoginFlowAlias"] != own["postBrokerLoginFlowAlias"]


def test_a_provider_without_its_secret_is_left_out() -> None:
    desired = build(replace(SUBJECT, secrets={"corp": None}), Sso(identity_providers=[provider()]))
    assert desired.providers == ()
    assert desired.mappers == {}


@pytest.mark.parametrize(
    ("observed", "desired", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": True}, False),
        ({}, {"a": "", "b": [], "c": False}, True),
        ({"a": "x"}, {"a": ""}, False),
        ({"a": ["x"]}, {"a": []}, False),
        ({"a": True}, {"a": False}, False),
        ({"a": 0}, {"a": False}, False),
        ({}, {"a": 0}, False),
        (None, {}, False),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, True),
        ({}, {"a": {"b": 1}}, False),
        (["b", "a"], ["a", "b"], True),
        (["a", "b", "c"], ["a", "b"], False),
        ({"secret": "*****"}, {"secret": "s"}, True),
        ({"clientSecret": "*****", "a": 1}, {"clientSecret": "s", "a": 2}, False),
    ],
)
def test_an_observed_value_holds_the_desired_one(observed: Any, desired: Any, same: bool) -> None:
    assert holds(observed, desired) is same


def test_an_empty_export_lacks_everything_and_says_so() -> None:
    desired = build(SUBJECT, Sso(identity_providers=[provider()], session=Session()))
    drift = compare(desired, {})
    assert drift != Drift()
    told = drift.told()
    assert {"setting enabled", "flow browser", "role owner", "client front-door (missing)"} <= set(told)
    assert {"identity provider corp", "role mappings of corp"} <= set(told)


def export(desired: Desired) -> dict[str, Any]:
    """A realm that is exactly as desired, as Keycloak would export it."""
    made: dict[str, list[Any]] = {"flows": [], "configs": []}

    def write(alias: str, steps: tuple[Step | Part, ...], flow: Flow, *, top: bool) -> None:
        executions: list[dict[str, Any]] = []
        for n, step in enumerate(steps):
            common = {"requirement": step.requirement, "priority": n}
            if isinstance(step, Part):
                executions.append(common | {"authenticatorFlow": True, "flowAlias": f"{flow.alias} {step.name}"})
                write(f"{flow.alias} {step.name}", step.steps, flow, top=False)
                continue
            executions.append(common | {"authenticator": step.provider})
            if step.config:
                made["configs"].append({"alias": f"{alias} {n}", "config": dict(step.config)})
                executions[-1]["authenticatorConfig"] = f"{alias} {n}"
        made["flows"].append({"alias": alias, "topLevel": top, "authenticationExecutions": executions})

    for flow in desired.flows:
        write(flow.alias, flow.steps, flow, top=True)
    wire: dict[str, Any] = json.loads(
        json.dumps(
            {
                **desired.settings,
                "authenticationFlows": made["flows"],
                "authenticatorConfig": made["configs"],
                "roles": {"realm": [{"name": r, "id": r} for r in desired.roles]},
                "clients": [{**desired.client, "id": "1", "secret": "*****"}],
                "scopeMappings": [{"client": "front-door", "roles": [r for r in desired.roles if r != "federated"]}],
                "identityProviders": list(desired.providers),
                "identityProviderMappers": [{**m, "id": m["name"]} for ms in desired.mappers.values() for m in ms],
                "requiredActions": [{"alias": a, "enabled": True} for a in desired.actions],
            }
        )
    )
    return wire


def test_mail_is_handed_in_over_tls_only_and_only_for_accounts_of_the_tenants_own() -> None:
    server = MailServer(host="smtp.eu.example", sender="no-reply@eu.example")
    own, mail = Sso(local_users=True), Mail(server, MailAccount(user="relay", password="p"))
    named = {"host": "smtp.eu.example", "port": "465", "from": "no-reply@eu.example", "ssl": "true"}
    assert build(SUBJECT, own, Mail(server)).settings["smtpServer"] == named
    login = {"auth": "true", "user": "relay", "password": "p"}
    assert build(SUBJECT, own, mail).settings["smtpServer"] == named | login
    for desired in (build(SUBJECT, Sso(), mail), build(SUBJECT, own)):
        assert desired.settings["smtpServer"] == {}
    verified = {s.local_users: build(SUBJECT, s).settings["verifyEmail"] for s in (own, Sso())}
    assert verified == {True: True, False: False}


def test_a_mail_server_is_compared_both_ways_but_for_its_password() -> None:
    server = MailServer(host="smtp.eu.example", sender="no-reply@eu.example")
    desired = build(SUBJECT, Sso(local_users=True), Mail(server, MailAccount(user="relay", password="p")))
    wanted = desired.settings["smtpServer"]
    for observed, same in (
        (wanted | {"password": "**********"}, True),
        (wanted | {"replyTo": ""}, True),
        (wanted | {"debug": "true"}, False),
        (wanted | {"host": "smtp.us.example"}, False),
        ({k: v for k, v in wanted.items() if k != "password"}, False),
        ({}, False),
        (None, False),
    ):
        drift = compare(desired, export(desired) | {"smtpServer": observed})
        assert drift.settings == (() if same else ("smtpServer",)), observed
    none = build(SUBJECT, Sso(local_users=True))
    assert compare(none, export(none) | {"smtpServer": wanted}).settings == ("smtpServer",)
    assert compare(none, export(none) | {"smtpServer": None}).settings == ()


def test_sessions_end_where_links_may_have_gone_elsewhere() -> None:
    server = MailServer(host="smtp.eu.example", sender="no-reply@eu.example")
    desired = build(SUBJECT, Sso(local_users=True), Mail(server))
    wanted = desired.settings["smtpServer"]
    for observed, ends in (
        ({}, False),
        (None, False),
        (wanted | {"auth": "true", "user": "relay", "password": "**********"}, False),
        (wanted | {"from": "other@eu.example"}, False),
        (wanted | {"host": "smtp.us.example"}, True),
        (wanted | {"port": "466"}, True),
        ({k: v for k, v in wanted.items() if k != "ssl"} | {"starttls": "true"}, True),
    ):
        found = export(desired) | {"smtpServer": observed}
        assert must_end(desired, found, compare(desired, found)) is ends, observed
    none = build(SUBJECT, Sso(local_users=True))
    found = export(none) | {"smtpServer": wanted}
    assert must_end(none, found, compare(none, found))


def test_what_a_realm_is_born_with_needs_no_mending() -> None:
    desired = build(SUBJECT, Sso(local_users=True, identity_providers=[provider()]))
    drift = compare(desired, json.loads(json.dumps(birth.representation(desired))))
    assert (drift.flows, drift.roles, drift.client, drift.scope, drift.actions) == ((), (), (), False, ())


def test_a_realm_as_desired_is_as_desired() -> None:
    mapping = RoleMapping(group="g", role=PersonRole.MANAGER, assistants=["sales"])
    for local_users in (True, False):
        desired = build(SUBJECT, Sso(local_users=local_users, identity_providers=[provider("corp", None, mapping)]))
        assert compare(desired, export(desired)).told() == ()
