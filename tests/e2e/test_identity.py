"""The chart's Keycloak on a real cluster: a realm is made on it, outlives it, and nobody reaches it past the gate."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from images.archive import NON_ROOT
from tests.authorities import SERVER, Authority
from tests.integration.test_chart import EU, IDENTITY, helm
from tests.testbed.process import TestbedError
from tests.testbed.testbed import Site, Testbed
from tests.testbed.topology import ClusterSpec, NodeSpec, SiteSpec, Topology

Object = dict[str, Any]
FIRST, REGION = "gcp-frankfurt", "europe-west3"
TOPOLOGY = Topology((ClusterSpec(FIRST, (NodeSpec(REGION, f"{REGION}-a"),), (SiteSpec(FIRST, "gcp", REGION),)),))
NAMESPACE = "domicile-system"
KEYCLOAK, GATE, DATABASE = (f"domicile-{name}.{NAMESPACE}.svc" for name in ("keycloak", "gate", "identity-database"))
REALM = "acme-01234567"
# What the operator does with a tenant's spec, in a pod that its network policy takes for it.
_RECONCILE = f"""
import asyncio
from pathlib import Path
from domicile.api.sso import Sso
from domicile.controllers.realm.desired import Subject, build
from domicile.controllers.realm.repair import ensure
from domicile.controllers.realm.server import IdentityServer, load_account

async def main():
    account, bundle = load_account(Path("/etc/domicile/identity"), "eu")
    server = IdentityServer("https://{KEYCLOAK}:8443", account, str(bundle))
    subject = Subject("acme", "01234567" * 4, ("helpdesk",), "acme.example", "client-secret-0123456789", {{}})
    async with server.realm("{REALM}") as admin:
        print((await ensure(admin, build(subject, Sso(local_users=True)), {{}}, changed=False)).mended)
    await server.close()

asyncio.run(main())
"""
_GET = """
import ssl, sys, urllib.error, urllib.request
context = ssl._create_unverified_context()
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5, context=context).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print("closed")
"""


@pytest.fixture(scope="module")
def testbed() -> Iterator[Testbed]:
    images = ("client", "model-provider", "domicile", "frontdoor", "database", "keycloak")
    testbed = Testbed(TOPOLOGY, name="identity", images=images)
    testbed.down()
    try:
        testbed.up()
        yield testbed
    finally:
        testbed.down()


@pytest.fixture(scope="module")
def site(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A cluster where the chart's identity server runs, with nothing else of the chart but its network policies."""
    site = testbed.site(FIRST)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    site.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    site.apply(*_secrets(), *_volume(testbed.state / "volume", site))
    values = tmp_path_factory.mktemp("values") / "values.yaml"
    values.write_text(yaml.safe_dump({"image": {"pullPolicy": "Never"}}))
    shown = (f"--show-only=templates/{name}.yaml" for name in ("identity", "networkpolicies"))
    done = helm(*EU, *IDENTITY, f"--values={values}", *shown)
    assert done.returncode == 0, done.stderr
    site.apply(done.stdout)
    _ready(site)
    site.kubectl(
        "wait", "-n", NAMESPACE, "--for=condition=complete", "job/domicile-admit-1", "--timeout=300s", seconds=310
    )
    return site


def _secrets() -> list[Object]:
    services = Authority("services")
    tls = {
        name: dict(zip(("tls.crt", "tls.key"), services.issue(name, use=SERVER, hosts=hosts), strict=True))
        for name, hosts in (("gate", ("sso.example", GATE)), ("keycloak", (KEYCLOAK,)), ("database", (DATABASE,)))
    }
    account = json.dumps({"clientId": "domicile", "clientSecret": secrets.token_hex(16)}).encode()
    data = {
        "of-gate": {**tls["gate"], "clients.crt": Authority("administrators").pem},
        "of-keycloak": {**tls["keycloak"], "ca.crt": services.pem},
        "of-database": tls["database"],
        "of-passwords": {n: secrets.token_hex(16).encode() for n in ("database-password", "bootstrap-secret")},
        "logins": {"eu.json": account, "eu.pem": services.pem},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": {k: v.decode() for k, v in content.items()},
        }
        for name, content in data.items()
    ]


def _volume(folder: Path, site: Site) -> list[Object]:
    folder.mkdir()
    node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [site.nodes[0].name]}
    spec = {
        "capacity": {"storage": "4Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "claimRef": {"namespace": NAMESPACE, "name": "data-domicile-identity-database-0"},
        "local": {"path": str(folder)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
    }
    return [{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "identity"}, "spec": spec}]


def _ready(site: Site) -> None:
    for name in ("statefulset/domicile-identity-database", "deploy/domicile-keycloak", "deploy/domicile-gate"):
        try:
            site.kubectl("rollout", "status", "-n", NAMESPACE, name, "--timeout=400s", seconds=410)
        except TestbedError as error:
            told = site.kubectl("describe", "pods", "-n", NAMESPACE)
            raise AssertionError(f"{error}\n{told[-6000:]}") from None


def reconcile(site: Site) -> str:
    """What had to be mended to bring the realm to what a spec asks for."""
    name = f"reconcile-{secrets.token_hex(3)}"
    context = {
        "allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": NON_ROOT, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    container = {
        "name": "reconcile",
        "image": "domicile.dev/domicile:0.1.0",
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", _RECONCILE],
        "securityContext": context,
        "volumeMounts": [{"name": "identity", "mountPath": "/etc/domicile/identity", "readOnly": True}],
    }
    site.apply({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/name": "domicile", "app.kubernetes.io/component": "operator"},
        },
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"fsGroup": NON_ROOT},
            "containers": [container],
            "volumes": [{"name": "identity", "secret": {"secretName": "logins", "defaultMode": 0o440}}],
        },
    })  # fmt: skip
    done = "--for=jsonpath={.status.phase}=Succeeded"
    try:
        site.kubectl("wait", "-n", NAMESPACE, done, f"pod/{name}", "--timeout=120s", seconds=130)
    except TestbedError as error:
        raise AssertionError(f"{error}\n{site.kubectl('logs', '-n', NAMESPACE, name)}") from None
    return site.kubectl("logs", "-n", NAMESPACE, name).strip()


def asked(site: Site, url: str) -> str:
    """What a pod that is nobody's hears: a status, or ``closed``."""
    return site.exec_client("python3", "-c", _GET, url, seconds=60).strip()


def test_a_realm_is_made_on_it_and_outlives_pods_of_keycloak_and_of_the_database(site: Site) -> None:
    assert reconcile(site) == f"('realm {REALM}',)"
    for component in ("identity-database", "keycloak"):
        which = f"--selector=app.kubernetes.io/component={component}"
        site.kubectl("delete", "pod", "-n", NAMESPACE, which, "--wait=true", seconds=180)
    _ready(site)
    assert reconcile(site) == "()"


def test_people_reach_logins_by_the_gate_and_nobody_reaches_what_is_behind_it(site: Site) -> None:
    assert reconcile(site) in {"()", f"('realm {REALM}',)"}
    assert asked(site, f"https://{GATE}/realms/{REALM}/.well-known/openid-configuration") == "200"
    assert asked(site, f"https://{GATE}/admin/master/console/") == "403"
    assert asked(site, f"https://{GATE}/realms/master") == "403"
    assert asked(site, f"https://{GATE}:9443/realms/master") == "closed"
    assert asked(site, f"https://{KEYCLOAK}:8443/realms/{REALM}") == "closed"
    assert asked(site, f"https://{DATABASE}:5432/") == "closed"
