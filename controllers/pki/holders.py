"""Who holds a certificate: the pods of the chain, each kind by the account that it runs as. Pure."""

from __future__ import annotations

from domicile.controllers.pki.leaf import Holder

MOUNT = "/etc/domicile/tls"
"""Where a holder finds its Secret."""


def lease(namespace: str) -> Holder:
    """The site's lease agents, in the operator's namespace."""
    return _server(namespace, "domicile-lease")


def sessions(namespace: str) -> Holder:
    """The site's session store, in the operator's namespace."""
    return _server(namespace, "domicile-sessions")


def egress(namespace: str) -> Holder:
    """The site's way out, in the operator's namespace; who calls through it shows its own certificate to stunnel."""
    return _server(namespace, "domicile-egress")


def outwards(namespace: str) -> Holder:
    """Operator, lease agents and replicators, as who calls the site's way out."""
    return Holder(namespace, "domicile-way-out", "domicile-way-out-tls")


def operator(namespace: str) -> Holder:
    """The operator, which asks the lease agents; it keeps its leaf to itself."""
    return Holder(namespace, "domicile-operator", "")


def assistant(tenant: str, name: str) -> Holder:
    """The guards of an assistant: the door calls them, they call the lease agents and the gateway."""
    return Holder(tenant, name, secret_of(name), (f"{name}.{tenant}.svc",))


def door(tenant: str) -> Holder:
    """A tenant's front door, as who calls its guards; browsers see another certificate."""
    return Holder(tenant, "front-door", secret_of("front-door"))


def gateway(tenant: str) -> Holder:
    """A tenant's gateway: the guards call it, it calls the session store and the site's way out."""
    return Holder(tenant, "gateway", secret_of("gateway"), (f"gateway.{tenant}.svc",))


def secret_of(workload: str) -> str:
    """Name of a workload's Secret in a tenant's namespace."""
    return f"{workload}-pods-tls"


def _server(namespace: str, account: str) -> Holder:
    return Holder(namespace, account, f"{account}-tls", (f"{account}.{namespace}.svc",), calls=False)
