"""The authentication flows of a tenant's realm: a second factor cannot be walked around in any of them.

A token says ``acr=mfa`` only where a level-of-authentication condition of level 2 was passed, so each way in leads
through one: the form and the cookie of the browser flow, and the flow after a login at somebody else's provider.
Source: Keycloak Server Administration Guide, "Creating a browser login flow with step-up mechanism", and
https://www.keycloak.org/docs-api/latest/rest-api/ (AuthenticationExecutionInfoRepresentation).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from domicile.api.sso import MAX_SESSION_SECONDS

# What acr says at a level of authentication.
LEVELS = {"pwd": 1, "mfa": 2}
MFA = "mfa"
# Marks people who come from a provider; they have no password here.
FEDERATED = "federated"
PREFIX = "domicile-"
# A level counts as long as the session, whose length the realm says: its longest is this, so no flow depends on it.
_LEVEL_SECONDS = MAX_SESSION_SECONDS

_REQUIRED, _ALTERNATIVE, _CONDITIONAL = "REQUIRED", "ALTERNATIVE", "CONDITIONAL"


@dataclass(frozen=True)
class Step:
    """One execution: an authenticator by its provider id."""

    provider: str
    requirement: str = _REQUIRED
    config: Mapping[str, str] = field(default_factory=dict)

    def to_wire(self) -> Any:
        """A plain value that says all of it."""
        return [self.provider, self.requirement, dict(self.config)]


@dataclass(frozen=True)
class Part:
    """A subflow."""

    name: str
    requirement: str
    steps: tuple[Step | Part, ...]

    def to_wire(self) -> Any:
        """A plain value that says all of it."""
        return [self.name, self.requirement, [s.to_wire() for s in self.steps]]


@dataclass(frozen=True)
class Flow:
    """A top-level flow. Its alias digests its steps: another flow has another name, so none is ever changed in use."""

    purpose: str
    steps: tuple[Step | Part, ...]

    @property
    def alias(self) -> str:
        """Name of the flow in the realm."""
        wire = json.dumps([s.to_wire() for s in self.steps], sort_keys=True)
        return f"{PREFIX}{self.purpose}-{hashlib.sha256(wire.encode()).hexdigest()[:12]}"


def _level(name: str, level: int, *steps: Step | Part) -> Part:
    condition = Step(
        "conditional-level-of-authentication",
        config={"loa-condition-level": str(level), "loa-max-age": str(_LEVEL_SECONDS)},
    )
    return Part(name, _CONDITIONAL, (condition, *steps))


def _no_federated() -> Part:
    """Somebody else's people never pass by a password of ours, even where one got set."""
    condition = Step("conditional-user-role", config={"condUserRole": FEDERATED, "negate": "false"})
    return Part("not-federated", _CONDITIONAL, (condition, Step("deny-access-authenticator")))


def _own(*, wanted: bool, directories: bool) -> tuple[Part, ...]:
    """Accounts of the tenant's own get in where they are ``wanted`` and have an address, which is verified later."""
    # Keycloak notes it on who comes from a directory.
    own = (_attribute("LDAP_ID", **_LACKING),) if directories else ()
    deny = Step("deny-access-authenticator")
    if not wanted:
        return (Part("own-account", _CONDITIONAL, (*own, deny)),)
    # Without an address there is nothing to verify, and Keycloak would let them in. A pattern fails at its null with an
    # error that tells people nothing, so that is asked for first; the pattern takes whatever else may be no address.
    return tuple(
        Part(name, _CONDITIONAL, (*own, _attribute("email", **what), deny))
        for name, what in (("no-address", {"not": "false"}), ("empty-address", _LACKING))
    )


_LACKING = {"attribute_expected_value": ".+", "regex": "true", "not": "true"}


def _attribute(name: str, **what: str) -> Step:
    return Step("conditional-user-attribute", config={"attribute_name": name, **what})


def browser(*, own: bool, directories: bool) -> Flow:
    """The login page. Without ``own`` accounts and ``directories`` only providers lead in."""
    ways: list[Step | Part] = [Step("auth-cookie", _ALTERNATIVE), Step("identity-provider-redirector", _ALTERNATIVE)]
    password = Step("auth-username-password-form")
    if own or directories:
        forms: tuple[Step | Part, ...] = (
            _level("password", 1, password, _no_federated(), *_own(wanted=own, directories=directories)),
            _level("second-factor", 2, Step("auth-otp-form")),
        )
    else:
        # The page of the form is what shows the providers' buttons, so it stays, and nobody passes it. Without a level
        # in this flow a session's cookie would count for none.
        deny = Step("deny-access-authenticator")
        forms = (password, deny, _level("second-factor", 2, deny))
    return Flow("browser", (*ways, Part("forms", _ALTERNATIVE, forms)))


def first_login() -> Flow:
    """The first login by a provider makes a user, and never takes over one that another provider vouches for."""
    return Flow(
        "first-login",
        (Step("idp-create-user-if-unique", config={"require.password.update.after.registration": "false"}),),
    )


def after_login_local() -> Flow:
    """After a provider's login: a one-time password here."""
    return Flow("after-login-local", (_level("second-factor", 2, Step("auth-otp-form")),))


def after_login_upstream() -> Flow:
    """After the login of a provider whose claim filter has proven its second factor: that counts as one of ours."""
    return Flow("after-login-upstream", (_level("proven", 2, Step("allow-access-authenticator")),))


def closed() -> Flow:
    """A flow that lets nobody in, for all ways in that a tenant's realm doesn't have."""
    return Flow("closed", (Step("deny-access-authenticator"),))
