"""The CRDs on a real API server: what is accepted, what is refused with which words, how lists merge, what is shown."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from domicile.api.tenant import AssistantTenantSpec
from domicile.api.zone import ResidencyZoneSpec
from tests.integration.apiserver import ApiServer
from tests.vendors import PROVIDERS, TENANT

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("zones/*.yaml")) + sorted((ROOT / "examples").glob("tenants/*.yaml"))
ORDERS = [ROOT / "examples" / "failover.yaml", ROOT / "examples" / "restore.yaml"]
_names = itertools.count()

Object = dict[str, Any]
DELETED = object()


def unique(prefix: str) -> str:
    return f"{prefix}-{next(_names)}"


def site(name: str, cloud: str = "gcp", region: str = "europe-west3") -> Object:
    stores = {"profile": "cloud", "replica": f"{name}-r", "keys": f"{name}-k", "control": f"{name}-c"}
    stores |= {"accountId": "111122223333"} if cloud == "aws" else {}
    live = {"createPrefix": f"{name}-live"}
    return {"name": name, "cloud": cloud, "region": region, "stores": {**stores, "live": live}, "key": {"name": name}}


def zone() -> Object:
    allowed = [{"cloud": "gcp", "regions": ["europe-west3"]}, {"cloud": "aws", "regions": ["eu-central-1"]}]
    sites = [site("one"), site("two", "aws", "eu-central-1")]
    spec = {"jurisdiction": "EU", "allowedRegions": allowed, "sites": sites}
    return {
        "apiVersion": "domicile.dev/v1alpha1",
        "kind": "ResidencyZone",
        "metadata": {"name": unique("zone")},
        "spec": spec,
    }


def tenant() -> Object:
    assistants = [{"name": "support", "mode": "free", "image": "domicile.dev/assistant:0.1.0"}]
    return {
        "apiVersion": "domicile.dev/v1alpha1",
        "kind": "AssistantTenant",
        "metadata": {"name": unique("tenant")},
        "spec": {"zone": "eu", "assistants": assistants, "model": {"providers": [{"name": "local"}], "model": "m"}},
    }


def failover() -> Object:
    spec = {"zone": "eu", "targetSite": "two", "tenants": {"names": ["a"]}, "acceptedDataLossSeconds": 60}
    return {
        "apiVersion": "domicile.dev/v1alpha1",
        "kind": "Failover",
        "metadata": {"name": unique("failover")},
        "spec": {**spec, "sourceIsDown": "the region is down, says its status page"},
    }


def restore() -> Object:
    return {
        "apiVersion": "domicile.dev/v1alpha1",
        "kind": "Restore",
        "metadata": {"name": unique("restore")},
        "spec": {"tenant": "bank", "into": "live"},
    }


def change(obj: Object, path: str, value: object) -> Object:
    """A copy with one field set, or gone where the value is DELETED; numbers in the path index lists."""
    out = copy.deepcopy(obj)
    *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")]
    node: Any = out
    for parent in parents:
        node = node[parent]
    if value is DELETED:
        del node[last]
    else:
        node[last] = value
    return out


def refusal(apiserver: ApiServer, verb: str, obj: Object) -> str:
    done = apiserver.kubectl(verb, "--validate=strict", "-f", "-", stdin=obj, check=False)
    assert done.returncode != 0, f"accepted: {done.stdout}"
    return done.stderr


@pytest.mark.parametrize("path", [*EXAMPLES, *ORDERS], ids=lambda p: p.name)
def test_examples_are_accepted(apiserver: ApiServer, path: Path) -> None:
    kind = next(iter(yaml.safe_load_all(path.read_text())))["kind"]
    apiserver.kubectl("create", "--validate=strict", "-f", str(path))
    apiserver.kubectl("delete", "-f", str(path))
    assert kind in {"ResidencyZone", "AssistantTenant", "Failover", "Restore"}


def test_minimal_objects_are_accepted_and_filled_with_defaults(apiserver: ApiServer) -> None:
    a_zone, a_tenant, a_failover, a_restore = zone(), tenant(), failover(), restore()
    for obj in (a_zone, a_tenant, a_failover, a_restore):
        apiserver.kubectl("create", "--validate=strict", "-f", "-", stdin=obj)
    spec = apiserver.get("residencyzone", a_zone["metadata"]["name"])["spec"]
    assert (spec["leaseSeconds"], spec["onPartition"]) == (30, "serve")
    spec = apiserver.get("assistanttenant", a_tenant["metadata"]["name"])["spec"]
    assert spec["assistants"][0]["replicas"] == 2
    kept = {"hourly": 48, "daily": 30, "monthly": 12}
    assert (spec["replication"], spec["suspend"]) == ({"maxAgeSeconds": 7200, "retention": kept}, False)
    spec = apiserver.get("failover", a_failover["metadata"]["name"])["spec"]
    assert (spec["mode"], spec["dryRun"]) == ("emergency", False)
    spec = apiserver.get("restore", a_restore["metadata"]["name"])["spec"]
    assert (spec["mode"], spec["dryRun"], spec["whileServing"]) == ("fresh", False, False)
    assert not {"seq", "at", "keptAt"} & spec.keys()


def test_a_spec_with_every_default_written_out_is_accepted(apiserver: ApiServer) -> None:
    # So the peer gets it: what a rule takes for absent may be there and empty.
    paths = [{"prefix": "/forms", "public": True}, {"prefix": "/desk", "roles": ["manager"]}]
    grants = [{"group": "g", "role": "manager", "assistants": ["a"]}, {"group": "h", "role": "owner"}]
    sso = {
        "identityProviders": [_CORP | {"roleMappings": grants}],
        "localUsers": True,
        "passwords": {"dormantDays": 90},
    }
    door = {**_DOOR, "sso": sso, "edge": {"clientCa": "cdn-ca"}}
    slots = [
        _DAY,
        {"name": "kind", "type": "choice", "values": ["hip", "knee"]},
        {"name": "floor", "type": "number", "minimum": -2, "maximum": 9},
        {"name": "member", "type": "code", "regex": "M-[0-9]{6}/[A-Fa-f0]{1,2}"},
    ]
    for changes in (
        {},
        {"assistants": _structured(slots=slots)},
        {"access": door, "assistants": [_ASSISTANT | {"paths": paths}]},
    ):
        obj = tenant()
        obj["spec"] = AssistantTenantSpec.model_validate(obj["spec"] | changes).to_wire()
        apiserver.kubectl("create", "--validate=strict", "-f", "-", stdin=obj)
    obj = zone()
    obj["spec"] = ResidencyZoneSpec.model_validate(obj["spec"] | {"identity": _IDENTITY}).to_wire()
    apiserver.kubectl("create", "--validate=strict", "-f", "-", stdin=obj)


_MAIL = {"host": "smtp.example", "sender": "no-reply@example", "account": "relay"}
_IDENTITY = {"url": "https://sso.example", "adminUrl": "https://own.sso.example", "mail": _MAIL}
_SITE = "spec/sites/0"
_STORES = f"{_SITE}/stores"
_PROVIDER = {"name": "p", "models": ["m"]}
_URL = "https://api.example.org/v1"
_SERVICE = {"namespace": "models", "name": "p", "port": 8080, "podLabels": {"app": "p"}}
_ATTESTATION = {
    "site": "one", "subject": "location", "statement": "in hall A of our data centre",
    "attestedOn": "2026-01-01", "expiresOn": "2027-01-01",
}  # fmt: skip

_ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
_MULTI = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
_RESOURCE = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k"
_KEY, _PEER_KEY = f"{_SITE}/key", "spec/sites/1/key"
_AT_HOME = "must lie in the site's own cloud and region"

_CONTRACT = {
    "processor": "Models Ltd", "regions": ["germanywestcentral"], "dataProcessing": True, "noTraining": True,
    "retentionDays": 30, "statement": "Contract 17, looked at in the yearly review.",
    "attestedOn": "2026-01-01", "expiresOn": "2027-01-01",
}  # fmt: skip


_ROOT = "-----BEGIN CERTIFICATE-----\nMIIB/+==\n-----END CERTIFICATE-----\n"
_PRIVATE = "-----BEGIN PRIVATE KEY-----\nMIIB/+==\n-----END PRIVATE KEY-----\n"


def _contracted(**changes: Any) -> Object:
    return {**_PROVIDER, "baseUrl": _URL, "contract": _CONTRACT | changes}


_WORD = {
    "processor": "Acme Ltd",
    "place": "Ireland",
    "statement": "The contract of the 3rd of May.",
    "attestedOn": "2026-01-01",
    "expiresOn": "2027-01-01",
}
_REACHED = {"host": "api.acme.example", "port": 443, "contract": _WORD}
_REACH = "spec/network"
_ASKED = {"host": "api.acme.example", "port": 443, "contract": "Acme Ltd"}


def _sealed(**stores: Any) -> Object:
    """A site whose store is compatible, with TLS by an authority of its own."""
    made = site("one")
    compatible = {"profile": "compatible", "endpoint": "https://s3.example"}
    return made | {"stores": made["stores"] | compatible | stores, "storeCaBundle": _ROOT}


ZONE_REFUSALS = [
    *(
        ("spec/allowedDestinations", [{**_REACHED, "host": host}], "spec.allowedDestinations[0].host")
        for host in (
            "*.example",
            "10.0.0.1",
            "127.1",
            "a.0x7f",
            "localhost",
            "API.example",
            "api.example.",
            "a.example:443",
        )
    ),
    ("spec/allowedDestinations", [{**_REACHED, "port": 0}], "greater than or equal to 1"),
    *(
        ("spec/allowedDestinations", [{**_REACHED, "key": {"name": "acme", "header": header}}], "header")
        for header in ("Host", "content-length", "Proxy-Authorization", "X: y", "Transfer-Encoding", "X-Forwarded-For")
    ),
    ("spec/allowedDestinations", [{**_REACHED, "port": 8443, "key": {"name": "acme"}}], "whose port is 443"),
    ("spec/allowedDestinations", [{**_REACHED, "cidrs": ["10.9.0.1/24"]}], "give networks such as"),
    ("spec/allowedDestinations", [{**_REACHED, "cidrs": ["0.0.0.0/0"]}], "no larger than a /8"),
    ("spec/allowedDestinations", [_REACHED, _REACHED], "Duplicate value"),
    (
        "spec/allowedDestinations",
        [{**_REACHED, "contract": {**_WORD, "expiresOn": "2026-01-01"}}],
        "expiresOn must be after attestedOn",
    ),
    ("spec/identity", {"url": "https://sso.example"}, "identity.adminUrl is required"),
    ("spec/identity", {"url": "http://sso.example", "adminUrl": "https://keycloak.sso.svc"}, "spec.identity.url"),
    ("spec/identity", {**_IDENTITY, "doorUrl": "http://gate.sso.svc"}, "spec.identity.doorUrl"),
    ("spec/identity", _IDENTITY | {"mail": _MAIL | {"host": "smtp://smtp.example"}}, "spec.identity.mail.host"),
    ("spec/identity", _IDENTITY | {"mail": _MAIL | {"host": "a" * 64}}, "spec.identity.mail.host"),
    ("spec/identity", _IDENTITY | {"mail": _MAIL | {"sender": "Bank <no-reply@example>"}}, "spec.identity.mail.sender"),
    ("spec/identity", _IDENTITY | {"mail": _MAIL | {"account": "../relay"}}, "spec.identity.mail.account"),
    ("spec/identity", _IDENTITY | {"mail": _MAIL | {"port": 0}}, "spec.identity.mail.port"),
    ("spec/identity", _IDENTITY | {"mail": _MAIL | {"tls": "none"}}, 'unknown field "spec.identity.mail.tls"'),
    (
        "spec/identity",
        {"url": "https://sso.example:99999", "adminUrl": "https://keycloak.sso.svc"},
        "spec.identity.url",
    ),
    (_KEY, {}, "set exactly one of name, awsKms and gcpKms"),
    (_KEY, {"name": "one", "gcpKms": {"name": _RESOURCE}}, "set exactly one of name, awsKms and gcpKms"),
    (_KEY, {"gcpKms": {"name": _RESOURCE.replace("west3", "west4")}}, _AT_HOME),
    (_KEY, {"gcpKms": {"name": _RESOURCE.replace("europe-west3", "global")}}, _AT_HOME),
    (_KEY, {"gcpKms": {"name": f"{_RESOURCE}/cryptoKeyVersions/1"}}, "gcpKms.name"),
    (_KEY, {"awsKms": {"arn": _ARN}}, _AT_HOME),
    (_KEY, {"name": "one", "previous": [{}]}, "set exactly one of name, awsKms and gcpKms"),
    (_KEY, {"name": "one", "previous": [{"awsKms": {"arn": _ARN}}]}, _AT_HOME),
    (_KEY, {"name": "one", "previous": [{"name": f"k{n}"} for n in range(5)]}, "must have at most 4 items"),
    (_PEER_KEY, {"awsKms": {"arn": _ARN.replace("eu-central-1", "us-east-1")}}, _AT_HOME),
    (_PEER_KEY, {"awsKms": {"arn": _MULTI}}, "use a single-region key"),
    (_PEER_KEY, {"awsKms": {"arn": _ARN.replace("key/", "alias/")}}, "awsKms.arn"),
    (_PEER_KEY, {"gcpKms": {"name": _RESOURCE}}, _AT_HOME),
    ("metadata/name", "a" * 41, "DNS label of at most 40 characters"),
    ("metadata/name", "a.b", "DNS label of at most 40 characters"),
    ("spec/jurisdiction", "", "spec.jurisdiction"),
    ("spec/jurisdiction", "-EU", "spec.jurisdiction"),
    ("spec/allowedRegions", [], "spec.allowedRegions"),
    ("spec/allowedRegions", [{"cloud": "gcp", "regions": ["eu"]}], "spec.allowedRegions[0].regions[0]"),
    ("spec/allowedRegions", [{"cloud": "gcp", "regions": []}], "spec.allowedRegions[0].regions"),
    ("spec/allowedRegions", [{"cloud": "azure", "regions": ["west-1"]}], "Unsupported value"),
    ("spec/allowedRegions", [{"cloud": "gcp", "regions": ["a-1"]}] * 2, "Duplicate value"),
    ("spec/allowedRegions/0/regions", ["us-east1"], "every site's region must be listed in allowedRegions"),
    ("spec/allowedRegions/0/cloud", "onprem", "every site's region must be listed in allowedRegions"),
    ("spec/sites", [], "spec.sites"),
    ("spec/sites", [site("a"), site("b"), site("c")], "must have at most 2 items"),
    ("spec/sites", [site("a"), site("a")], "Duplicate value"),
    ("spec/leaseSeconds", 4, "should be greater than or equal to 5"),
    ("spec/leaseSeconds", 301, "should be less than or equal to 300"),
    ("spec/onPartition", "maybe", "Unsupported value"),
    ("spec/unknown", 1, "unknown field"),
    (f"{_SITE}/name", "One", "spec.sites[0].name"),
    (f"{_SITE}/region", "europe", "spec.sites[0].region"),
    (f"{_SITE}/key", DELETED, "spec.sites[0].key: Required value"),
    (f"{_SITE}/cloud", "onprem", "an onprem site needs stores of profile compatible"),
    (f"{_STORES}/profile", "compatible", "endpoint is required with profile compatible"),
    (f"{_STORES}/endpoint", "https://s3.example.org", "derived from the region with profile cloud"),
    (f"{_STORES}/endpoint", "ftp://s3.example.org", "spec.sites[0].stores.endpoint"),
    ("spec/sites/0", _sealed(endpoint="https://s3.example:99999"), "spec.sites[0].stores.endpoint"),
    ("spec/sites/0", _sealed(endpoint="https://s3.example:0"), "spec.sites[0].stores.endpoint"),
    (f"{_STORES}/keys", "one-r", "must be three different buckets"),
    (f"{_STORES}/control", "one-k", "must be three different buckets"),
    (f"{_STORES}/control", "one-r", "must be three different buckets"),
    (f"{_STORES}/replica", "UPPER", "spec.sites[0].stores.replica"),
    (f"{_STORES}/live", {}, "set exactly one of pool and createPrefix"),
    (f"{_STORES}/live/pool", ["aaa"], "set exactly one of pool and createPrefix"),
    (f"{_STORES}/live", {"pool": []}, "spec.sites[0].stores.live.pool"),
    (f"{_STORES}/live", {"pool": ["aaa", "aaa"]}, "Duplicate value"),
    ("spec/modelProviders", [_PROVIDER], "set exactly one of service and baseUrl"),
    (
        "spec/modelProviders",
        [{**_PROVIDER, "service": _SERVICE, "baseUrl": "https://api.example.org"}],
        "set exactly one of service and baseUrl",
    ),
    ("spec/modelProviders", [{**_PROVIDER, "baseUrl": "http://api.example.org"}], "spec.modelProviders[0].baseUrl"),
    ("spec/modelProviders", [{**_PROVIDER, "service": {**_SERVICE, "port": 0}}], "greater than or equal to 1"),
    ("spec/modelProviders", [{**_PROVIDER, "service": {**_SERVICE, "podLabels": {}}}], "podLabels"),
    ("spec/modelProviders", [{**_PROVIDER, "baseUrl": _URL}], "a provider outside the cluster needs a contract"),
    ("spec/modelProviders", [_contracted(regions=[])], "contract.regions"),
    ("spec/modelProviders", [_contracted(regions=["EU"])], "contract.regions[0]"),
    ("spec/modelProviders", [_contracted(retentionDays=-1)], "greater than or equal to 0"),
    ("spec/modelProviders", [_contracted(attestations=["seen it"])], "Unsupported value"),
    ("spec/modelProviders", [_contracted(expiresOn="2026-01-01")], "expiresOn must be after attestedOn"),
    ("spec/modelProviders", [_contracted() | {"deployments": {"n": "x"}}], "a model that is not in models"),
    ("spec/modelProviders", [_contracted() | {"type": "other"}], "Unsupported value"),
    *(
        ("spec/modelProviders", [_contracted() | changes], "tokenUrl is for a provider of type gemini")
        for changes in (
            {"tokenUrl": _URL},
            {"tokenUrl": _URL, "type": "gemini"},
            {"tokenUrl": _URL, "type": "openai", "key": "k"},
        )
    ),
    (
        "spec/modelProviders",
        [_contracted() | {"tokenUrl": "http://sts.example/", "type": "gemini", "key": "k"}],
        "spec.modelProviders[0].tokenUrl",
    ),
    ("spec/modelProviders", [_contracted() | {"caBundle": f"{_ROOT}{_PRIVATE}"}], "caBundle"),
    ("spec/modelProviders", [_contracted() | {"caBundle": f"{_PRIVATE}{_ROOT}"}], "caBundle"),
    ("spec/modelProviders", [_contracted() | {"caBundle": ""}], "caBundle"),
    ("spec/modelProviders", [{**_PROVIDER, "service": _SERVICE, "caBundle": _ROOT}], "for a provider with baseUrl"),
    ("spec/modelRegions", ["Europe"], "spec.modelRegions[0]"),
    ("spec/sites/0/storeCaBundle", _ROOT, "whose endpoint begins with https"),
    ("spec/sites/0", _sealed(endpoint="http://s3.example"), "whose endpoint begins with https"),
    ("spec/sites/0", _sealed() | {"storeCaBundle": f"{_ROOT}{_PRIVATE}"}, "storeCaBundle"),
    ("spec/sites/1/stores/accountId", DELETED, "stores.accountId is required with cloud aws and profile cloud"),
    ("spec/sites/1/stores/accountId", "12345678901", "accountId"),
    ("spec/sites/1/liveIdentity", "arn:aws:iam::999999999999:role/live", "liveIdentity is a role of stores.accountId"),
    ("spec/sites/1/liveIdentity", "live-data@project-1.iam.gserviceaccount.com", "liveIdentity is a role of"),
    ("spec/sites/1/liveIdentity", "arn:aws:iam::111122223333:role/*", "spec.sites[1].liveIdentity"),
    ("spec/sites/1/liveIdentity", "arn:aws:iam::111122223333:user/live", "spec.sites[1].liveIdentity"),
    (f"{_SITE}/liveIdentity", "arn:aws:iam::111122223333:role/live", "a service account on gcp"),
    (f"{_SITE}/liveIdentity", "somebody@gmail.com", "spec.sites[0].liveIdentity"),
    (f"{_STORES}/accountId", "111122223333", "unknown to other clouds"),
    ("spec/attestations", [{**_ATTESTATION, "subject": "weather"}], "Unsupported value"),
    ("spec/attestations", [{**_ATTESTATION, "attestedOn": "soon"}], "attestedOn"),
    ("spec/attestations", [{**_ATTESTATION, "statement": "yes"}], "statement"),
    ("spec/attestations", [_ATTESTATION, _ATTESTATION], "Duplicate value"),
]

_DAY = {"name": "day", "type": "date"}
_INTENT = {"name": "when", "phrases": ["When is my appointment on {day}?"], "slots": [_DAY]}


def _structured(**changes: object) -> list[Object]:
    return [{"name": "a", "image": "i", "intents": [_INTENT | changes]}]


_ASSISTANT = {"name": "a", "mode": "free", "image": "i"}
_OIDC = {"issuer": "https://login.example/x", "clientId": "c", "clientSecret": "corp"}
_DOOR = {"host": "bank.example", "tls": {"secret": "bank-tls"}}
_CORP = {"name": "corp", "oidc": _OIDC, "mfa": {"mode": "local"}}


def _passwords(*, localUsers: bool = True, **passwords: Any) -> Object:  # noqa: N803  as on the wire
    return {"host": "bank.example", "sso": {"localUsers": localUsers, "passwords": passwords}}


def _sso(**changes: Any) -> Object:
    return {**_DOOR, "sso": {"identityProviders": [_CORP | changes]}}


def _saml(mfa: Object | None = None, **saml: str) -> Object:
    provider = {"name": "corp", "saml": saml, "mfa": mfa or {"mode": "local"}}
    return {**_DOOR, "sso": {"identityProviders": [provider]}}


def _profile(name: str, mfa: Object | None = None, groups: tuple[str, ...] = (), **changes: Any) -> Object:
    """One of the well-known providers, with changes of the fields of its profile."""
    made = copy.deepcopy(PROVIDERS[name]) | {"name": "corp"}
    [kind] = made.keys() - {"name", "mfa"}
    made[kind] |= changes
    made["mfa"] = mfa or made["mfa"]
    made["roleMappings"] = [{"group": g, "role": "member"} for g in groups]
    return {**_DOOR, "sso": {"identityProviders": [made]}}


def _proof(claim: str, *values: str) -> Object:
    return {"mode": "upstream", "claim": claim, "values": list(values)}


def _mapping(**changes: Any) -> Object:
    return _sso(roleMappings=[{"group": "g", "role": "member"} | changes])


TENANT_REFUSALS = [
    (_REACH, {"additionalEgress": [{**_ASKED, "host": "*.example"}]}, "additionalEgress[0].host"),
    (_REACH, {"additionalEgress": [_ASKED, _ASKED]}, "Duplicate value"),
    (_REACH, {"additionalEgress": [{"host": "a.example", "port": 443}]}, "contract: Required value"),
    ("metadata/name", "a" * 41, "DNS label of at most 40 characters"),
    ("metadata/name", "a.b", "DNS label of at most 40 characters"),
    ("metadata/name", "kube-system", "belong to the cluster"),
    ("metadata/name", "default", "belong to the cluster"),
    ("spec", DELETED, "spec: Required value"),
    ("spec/zone", "", "spec.zone"),
    ("spec/zone", "EU", "spec.zone"),
    ("spec/assistants", [], "spec.assistants"),
    ("spec/assistants", [_ASSISTANT, _ASSISTANT], "Duplicate value"),
    (
        "spec/assistants",
        [{"name": f"a{n}", "mode": "free", "image": "i"} for n in range(17)],
        "must have at most 16 items",
    ),
    ("spec/assistants/0/mode", "structured", "mode structured, the default, needs intents"),
    ("spec/assistants/0/mode", DELETED, "mode structured, the default, needs intents"),
    ("spec/assistants/0/intents", [_INTENT], "mode free has none"),
    ("spec/assistants/0/intents", [], "at least 1 items"),
    ("spec/assistants", _structured(phrases=["On {day"]), "phrases[0]"),
    ("spec/assistants", _structured(phrases=[]), "phrases"),
    ("spec/assistants", _structured(slots=[{"name": "day", "type": "text"}]), "Unsupported value"),
    ("spec/assistants", _structured(slots=[{"name": "day", "type": "choice"}]), "values are those of a choice"),
    ("spec/assistants", _structured(slots=[{"name": "day", "type": "number", "minimum": 1}]), "needs both"),
    ("spec/assistants", _structured(slots=[{"name": "day", "type": "code"}]), "regex is that of a code"),
    ("spec/assistants", _structured(slots=[{**_DAY, "regex": "A"}]), "regex is that of a code"),
    *(
        ("spec/assistants", _structured(slots=[{"name": "day", "type": "code", "regex": regex}]), "regex")
        for regex in ("(a)", "a*", "a+", "a|b", ".", "[^a]", "a{1,}", "[a-Z]", "\\w", "a b", "a$", "")
    ),
    ("spec/assistants/0/replicas", 0, "greater than or equal to 1"),
    ("spec/assistants/0/replicas", 101, "less than or equal to 100"),
    ("spec/assistants/0/image", "", "spec.assistants[0].image"),
    ("spec/assistants/0/envSecrets", ["a", "a"], "Duplicate value"),
    ("spec/assistants/0/podTemplate", "no", "must be of type object"),
    ("spec/model", {"providers": [{"name": "p"}]}, "spec.model.model: Required value"),
    ("spec/model", {"providers": [], "model": "m"}, "spec.model.providers"),
    ("spec/model", {"providers": [{"name": "p"}] * 2, "model": "m"}, "Duplicate value"),
    ("spec/model", {"providers": [{"name": "p", "weight": 0}], "model": "m"}, "needs a weight above 0"),
    ("spec/model/budget", {"requestsPerDay": 0}, "greater than or equal to 1"),
    ("spec/privacy", {"placeholders": "maybe"}, "Unsupported value"),
    ("spec/privacy", {"vaultHours": 0}, "greater than or equal to 1"),
    ("spec/privacy", {"thresholds": [{"kind": "PERSON", "score": 1.5}]}, "less than or equal to 1"),
    ("spec/privacy", {"patterns": [{"name": "m", "regex": "M-[0-9]+"}]}, "spec.privacy.patterns[0].name"),
    ("spec/privacy", {"refuse": ["HEALTH", "HEALTH"]}, "Duplicate value"),
    ("spec/compliance", ["PCI"], "Unsupported value"),
    ("spec/access", {"clients": [{"namespace": "Not"}]}, "spec.access.clients[0].namespace"),
    ("spec/access", {"host": "bank.example"}, "host, sso and tls come together"),
    ("spec/access", {"sso": {}}, "host, sso and tls come together"),
    ("spec/access", {"host": "bank.example", "sso": {}}, "host, sso and tls come together"),
    ("spec/access", {**_DOOR, "host": "https://bank.example", "sso": {}}, "spec.access.host"),
    ("spec/access", {**_DOOR, "host": "bank", "sso": {}}, "spec.access.host"),
    ("spec/access", {"sources": ["0.0.0.0/0"]}, "they need host, sso and tls"),
    ("spec/access", {"edge": {"cidrs": ["0.0.0.0/0"]}}, "they need host, sso and tls"),
    ("spec/access", _sso(mfa={"mode": "local", "values": ["mfa"]}), "claim and values are required with mode"),
    ("spec/access", _sso(mfa={"mode": "upstream", "claim": "sub", "values": ["x"]}), "says nothing of a second"),
    ("spec/access", {**_DOOR, "sso": {}, "sources": ["10.0.0.1/8"]}, "give a network such as 10.0.0.0/8"),
    ("spec/access", {**_DOOR, "sso": {}, "sources": ["10.0.0.0/40"]}, "give a network such as 10.0.0.0/8"),
    ("spec/access", {**_DOOR, "sso": {}, "edge": {}}, "set cidrs, clientCa or both"),
    ("spec/access", {**_DOOR, "sso": {}, "tls": {}}, "name a secret or an issuer, not both"),
    ("spec/access", {**_DOOR, "sso": {}, "tls": {"issuer": {"name": "i"}, "secret": "s"}}, "not both"),
    ("spec/access", {**_DOOR, "sso": {}, "tls": {"issuer": {"name": "i", "kind": "Secret"}}}, "Unsupported value"),
    ("spec/access", {**_DOOR, "sso": {}, "excludedRules": [980130]}, "less than or equal to 948999"),
    ("spec/assistants/0/paths", [{"prefix": "/admin/x", "public": True}], "/admin is for owners and admins"),
    ("spec/assistants/0/paths", [{"prefix": "/forms"}], "a path is public, or it names the roles"),
    ("spec/assistants/0/paths", [{"prefix": "/a", "public": True, "roles": ["owner"]}], "a path is public, or"),
    ("spec/assistants/0/paths", [{"prefix": "/../x", "public": True}], "prefix"),
    ("spec/assistants/0/name", "front-door", "the operator's own names"),
    ("spec/assistants/0/name", "gateway", "the operator's own names"),
    ("spec/access", {**_DOOR, "sso": {"identityProviders": [_CORP, _CORP]}}, "Duplicate value"),
    ("spec/access", {**_DOOR, "sso": {"session": {"idleSeconds": 10}}}, "greater than or equal to 300"),
    (
        "spec/access",
        {**_DOOR, "sso": {"identityProviders": [{"name": "corp", "oidc": _OIDC}]}},
        "mfa: Required value",
    ),
    ("spec/access", _passwords(localUsers=False), "set localUsers, too"),
    ("spec/access", _passwords(breachedList="../etc/passwd"), "passwords.breachedList"),
    ("spec/access", _passwords(breachedList="a) and length(1"), "passwords.breachedList"),
    ("spec/access", _passwords(breakGlass="Ann Example"), "passwords.breakGlass"),
    ("spec/access", _passwords(dormantDays=6), "greater than or equal to 7"),
    ("spec/access", _passwords(breakGlass="ab"), "passwords.breakGlass"),
    ("spec/access", _sso(mfa={"mode": "none"}), "Unsupported value"),
    ("spec/access", _sso(mfa={"mode": "upstream"}), "claim and values are required"),
    ("spec/access", _sso(mfa={"mode": "local", "claim": "acr", "values": ["mfa"]}), "claim and values are required"),
    ("spec/access", _sso(mfa={"mode": "upstream", "claim": "acr", "values": [".*"]}), "mfa.values[0]"),
    ("spec/access", _sso(oidc=_OIDC | {"issuer": "http://login.example"}), "oidc.issuer"),
    ("spec/access", _sso(oidc=_OIDC | {"issuer": "https://login.example/?a=b"}), "oidc.issuer"),
    ("spec/access", _sso(oidc=_OIDC | {"clientSecret": "front-door"}), "the operator's own Secrets"),
    ("spec/access", _sso(saml={"metadataUrl": "https://login.example/m"}), "set exactly one of oidc, saml, google"),
    ("spec/access", _saml(), "set exactly one of metadataUrl and metadataSecret"),
    ("spec/access", _saml(metadataUrl="https://l.example/m", metadataSecret="m"), "set exactly one of metadataUrl"),
    ("spec/access", _saml(metadataUrl="http://login.example/m"), "saml.metadataUrl"),
    ("spec/access", _saml(metadataSecret="front-door"), "the operator's own Secrets"),
    (
        "spec/access",
        _saml({"mode": "upstream", "claim": "acr", "values": ["mfa"]}, metadataSecret="m"),
        "mfa.mode upstream needs oidc",
    ),
    ("spec/access", _sso(google=PROVIDERS["google"]["google"]), "set exactly one of oidc, saml, google"),
    ("spec/access", _profile("google", hostedDomain="*"), "hostedDomain is the organisation's domain alone"),
    ("spec/access", _profile("google", hostedDomain="ann@bank.example"), "hostedDomain is the organisation's domain"),
    ("spec/access", _profile("google", clientSecret="front-door"), "the operator's own Secrets"),
    ("spec/access", _profile("google", _proof("amr", "mfa")), "google and oneLogin need mfa.mode local"),
    ("spec/access", _profile("google", groups=("bank.example", "staff")), "the group of its role mappings is its host"),
    ("spec/access", _profile("entra", tenantId="common"), "tenantId is the Directory (tenant) ID, a GUID"),
    ("spec/access", _profile("entra", tenantId="bank.onmicrosoft.com"), "tenantId is the Directory (tenant) ID"),
    ("spec/access", _profile("entra", tenantId=TENANT.replace("1", "A")), "a GUID in lower case"),
    ("spec/access", _profile("entra", groupsClaim="wids"), "Unsupported value"),
    ("spec/access", _profile("entra", _proof("amr", "mfa")), "set mfa.claim acrs and mfa.values"),
    ("spec/access", _profile("entra", _proof("acrs", "c1", "c0")), "set mfa.claim acrs and mfa.values"),
    ("spec/access", _profile("okta", domain="https://bank.okta.com"), "domain is the Okta domain alone"),
    ("spec/access", _profile("okta", domain="bank"), "domain is the Okta domain alone"),
    ("spec/access", _profile("okta", domain="bank-admin.okta.com"), "leave -admin out"),
    ("spec/access", _profile("okta", authorizationServer="a/b"), "okta.authorizationServer"),
    ("spec/access", _profile("okta", _proof("acr", "mfa")), "set mfa.claim amr and mfa.values [mfa]"),
    ("spec/access", _profile("okta", _proof("amr", "mfa", "pwd")), "set mfa.claim amr and mfa.values [mfa]"),
    ("spec/access", _profile("onelogin", subdomain="bank.onelogin.com"), "subdomain is what stands before"),
    ("spec/access", _profile("onelogin", _proof("acr", "mfa")), "google and oneLogin need mfa.mode local"),
    ("spec/access", _mapping(role="root"), "Unsupported value"),
    ("spec/access", _mapping(role="manager"), "a manager needs assistants"),
    ("spec/access", _mapping(assistants=["support"]), "assistants are granted to the role manager"),
    ("spec/access", _mapping(group=""), "group"),
    ("spec/assistants/0/envSecrets", ["front-door"], "the operator's own Secrets"),
    ("spec/assistants/0/envSecrets", ["mine", "front-door-pods-tls"], "the operator's own Secrets"),
    ("spec/access", {**_DOOR, "sso": {}, "tls": {"secret": "front-door"}}, "the operator's own Secrets"),
    ("spec/access", {**_DOOR, "sso": {}, "tls": {"secret": "front-door-pods-tls"}}, "the operator's own Secrets"),
    ("spec/access", {**_DOOR, "sso": {}, "edge": {"clientCa": "store-credentials"}}, "the operator's own Secrets"),
    ("spec/access", {**_DOOR, "sso": {}, "host": "bank.example:65536"}, "spec.access.host"),
    ("spec/access", {**_DOOR, "sso": {}, "host": "bank.example:0"}, "spec.access.host"),
    ("spec/replication", {"maxAgeSeconds": 59}, "greater than or equal to 60"),
    ("spec/replication", {"maxAgeSeconds": 604801}, "less than or equal to 604800"),
    ("spec/replication", {"retention": {"hourly": -1}}, "greater than or equal to 0"),
    ("spec/replication", {"retention": {"longestDays": 0}}, "greater than or equal to 1"),
]

FAILOVER_REFUSALS = [
    ("spec/tenants", {}, "set exactly one of names and matchLabels"),
    ("spec/tenants", {"names": ["a"], "matchLabels": {"a": "b"}}, "set exactly one of names and matchLabels"),
    ("spec/tenants", {"names": []}, "spec.tenants.names"),
    ("spec/tenants", {"names": ["a", "a"]}, "Duplicate value"),
    ("spec/mode", "planned", "Unsupported value"),
    ("spec/acceptedDataLossSeconds", -1, "greater than or equal to 0"),
    ("spec/acceptedDataLossSeconds", DELETED, "Required value"),
    ("spec/sourceIsDown", "yes", "spec.sourceIsDown"),
    ("spec/sourceIsDown", "x" * 513, "spec.sourceIsDown"),
    ("spec/requestedBy", "x" * 129, "spec.requestedBy"),
    ("spec/zone", DELETED, "Required value"),
]

RESTORE_REFUSALS = [
    ("spec/tenant", DELETED, "spec.tenant: Required value"),
    ("spec/into", DELETED, "spec.into: Required value"),
    ("spec/into", "elsewhere", "spec.into"),
    ("spec/mode", "force", "spec.mode"),
    ("spec/seq", 0, "spec.seq"),
    ("spec/at", "yesterday", "spec.at"),
    ("spec/at", "2026-01-31T12:00:00", "spec.at"),
    ("spec", {"tenant": "a", "into": "live", "seq": 1, "at": "2026-01-01T00:00:00Z"}, "set seq or at or neither"),
    ("spec", {"tenant": "a", "into": "beside", "mode": "exact"}, "mode fresh is all it needs"),
    ("spec", {"tenant": "a", "into": "live", "whileServing": True}, "whileServing needs into live and mode merge"),
    ("spec", {"tenant": "a", "into": "beside", "whileServing": True}, "whileServing needs into live and mode merge"),
    ("spec/prefix", "x" * 1025, "spec.prefix"),
]

REFUSALS = [
    *((zone, *case) for case in ZONE_REFUSALS),
    *((tenant, *case) for case in TENANT_REFUSALS),
    *((failover, *case) for case in FAILOVER_REFUSALS),
    *((restore, *case) for case in RESTORE_REFUSALS),
]


@pytest.mark.parametrize(("make", "path", "value", "words"), REFUSALS)
def test_bad_objects_are_refused_with_a_reason(
    apiserver: ApiServer, make: Any, path: str, value: object, words: str
) -> None:
    assert words in refusal(apiserver, "create", change(make(), path, value))


def _shown() -> list[Object]:
    """The identity providers that the documentation shows, vendor by vendor."""
    section = (ROOT / "docs" / "identity.md").read_text().partition("## Well-known providers")[2].partition("\n## ")[0]
    return [p for block in section.split("```yaml\n")[1:] for p in yaml.safe_load(block.partition("```")[0])]


def test_well_known_providers_are_accepted_as_documented(apiserver: ApiServer) -> None:
    shown = _shown()
    assert {k for p in shown for k in p} >= {"google", "entra", "okta", "oneLogin"}
    asked = [*({"name": f"our-{n}", **p} for n, p in PROVIDERS.items()), *shown]
    obj = change(tenant(), "spec/access", {**_DOOR, "sso": {"identityProviders": asked}})
    apiserver.kubectl("create", "--validate=strict", "-f", "-", stdin=obj)
    stored = apiserver.get("assistanttenant", obj["metadata"]["name"])["spec"]["access"]["sso"]["identityProviders"]
    assert [p["entra"]["groupsClaim"] for p in stored if "entra" in p] == ["groups", "groups"]


def test_a_provider_with_all_that_was_agreed_is_accepted(apiserver: ApiServer) -> None:
    made = zone()
    full = _contracted(attestations=["SOC2", "CSA-STAR"], useCase="case 17", subProcessors=["Racks GmbH"])
    made["spec"] |= {
        "modelProviders": [
            full | {"type": "azure", "deployments": {"m": "m-de"}, "key": "azure", "caBundle": _ROOT + _ROOT}
        ],
        "modelRegions": ["germanywestcentral"],
    }
    apiserver.apply(made)


def test_authorities_of_a_store_may_change(apiserver: ApiServer) -> None:
    made = change(zone(), "spec/sites/0", _sealed())
    apiserver.apply(made)
    made["spec"]["sites"][0]["storeCaBundle"] = _ROOT + _ROOT
    apiserver.apply(made)
    del made["spec"]["sites"][0]["storeCaBundle"]
    apiserver.apply(made)


def test_what_lies_outside_is_listed_or_left_out(apiserver: ApiServer) -> None:
    both = [_REACHED, {**_REACHED, "port": 8443, "cidrs": ["10.9.0.0/24", "fd12::/48"]}]
    for listed in ([], both, DELETED):
        obj = zone() if listed is DELETED else change(zone(), "spec/allowedDestinations", listed)
        apiserver.kubectl("create", "--validate=strict", "-f", "-", stdin=obj)
    for asked in ({}, {"additionalEgress": []}, {"additionalEgress": [_ASKED]}):
        apiserver.kubectl("create", "--validate=strict", "-f", "-", stdin=change(tenant(), _REACH, asked))


def test_two_sites_of_one_cloud_need_buckets_of_their_own(apiserver: ApiServer) -> None:
    obj = zone()
    obj["spec"]["sites"][1] = site("two")
    apiserver.kubectl("create", "-f", "-", stdin=obj)
    obj = zone()
    obj["spec"]["sites"][1] = site("two")
    obj["spec"]["sites"][1]["stores"]["control"] = "one-c"
    assert "need buckets of their own" in refusal(apiserver, "create", obj)


_POOL = {"pool": ["aaa", "bbb"]}

IMMUTABLE = [
    (zone, "spec/leaseSeconds", 60, "a take-over waits for the leases given"),
    (zone, f"{_STORES}/replica", "other", "is immutable"),
    (zone, f"{_STORES}/live", _POOL, "is immutable"),
    (zone, f"{_SITE}/region", "europe-west4", "is immutable"),
    (zone, f"{_SITE}/cloud", "aws", "is immutable"),
    (zone, f"{_SITE}/name", "renamed", "sites keep their order"),
    (zone, _KEY, {"name": "next"}, "move it to previous"),
    (zone, _KEY, {"gcpKms": {"name": _RESOURCE}}, "move it to previous"),
    (zone, _KEY, {"name": "next", "previous": [{"name": "other"}]}, "move it to previous"),
    (zone, "spec/sites", [site("one")], "sites keep their order"),
    (zone, "spec/sites", [site("two", "aws", "eu-central-1"), site("one")], "sites keep their order"),
    (tenant, "spec/zone", "us", "is immutable"),
    (tenant, "spec/homeSite", "two", "homeSite is immutable"),
    (failover, "spec/acceptedDataLossSeconds", 3600, "a Failover is immutable"),
    (failover, "spec/tenants/names", ["a", "b"], "a Failover is immutable"),
    (failover, "spec/dryRun", True, "a Failover is immutable"),
    (restore, "spec/mode", "exact", "a Restore is immutable"),
    (restore, "spec/seq", 1, "a Restore is immutable"),
]


@pytest.mark.parametrize(("make", "path", "value", "words"), IMMUTABLE)
def test_immutable_fields(apiserver: ApiServer, make: Any, path: str, value: object, words: str) -> None:
    obj = make()
    obj["spec"].setdefault("allowedRegions", []).append({"cloud": "onprem", "regions": ["any-where"]})
    if make is not zone:
        del obj["spec"]["allowedRegions"]
    else:
        obj["spec"]["allowedRegions"][0]["regions"].append("europe-west4")
        obj["spec"]["allowedRegions"][1]["regions"].append("europe-west3")
    apiserver.kubectl("create", "-f", "-", stdin=obj)
    assert words in refusal(apiserver, "replace", change(obj, path, value))


@pytest.mark.parametrize("value", ["two", DELETED])
def test_home_site_can_neither_change_nor_vanish(apiserver: ApiServer, value: object) -> None:
    obj = tenant()
    obj["spec"]["homeSite"] = "one"
    apiserver.kubectl("create", "-f", "-", stdin=obj)
    assert "homeSite is immutable" in refusal(apiserver, "replace", change(obj, "spec/homeSite", value))


def test_a_second_site_may_be_added_and_other_fields_may_change(apiserver: ApiServer) -> None:
    obj = zone()
    second = obj["spec"]["sites"].pop()
    apiserver.kubectl("create", "-f", "-", stdin=obj)
    obj["spec"]["sites"].append(second)
    obj["spec"]["onPartition"] = "stop"
    apiserver.kubectl("replace", "-f", "-", stdin=obj)
    obj["spec"]["sites"][0]["key"] = {"name": "next", "previous": [{"name": "one"}]}
    apiserver.kubectl("replace", "-f", "-", stdin=obj)
    obj["spec"]["sites"][0]["key"] = {"name": "next"}
    apiserver.kubectl("replace", "-f", "-", stdin=obj)


def test_a_sites_key_is_replaced_by_one_of_its_kms_and_by_a_further_one(apiserver: ApiServer) -> None:
    obj = zone()
    apiserver.kubectl("create", "-f", "-", stdin=obj)
    next_arn, next_name = _ARN.replace("1234abcd", "5678abcd"), f"{_RESOURCE}-next"
    steps = (
        ({"gcpKms": {"name": _RESOURCE}}, {"awsKms": {"arn": _ARN}}),
        ({"gcpKms": {"name": next_name}}, {"awsKms": {"arn": next_arn}}),
    )
    for keys in steps:
        for site, key in zip(obj["spec"]["sites"], keys, strict=True):
            site["key"] = {**key, "previous": [{k: v for k, v in site["key"].items() if k != "previous"}]}
        apiserver.kubectl("replace", "--validate=strict", "-f", "-", stdin=obj)
    for site in obj["spec"]["sites"]:
        del site["key"]["previous"]
    apiserver.kubectl("replace", "--validate=strict", "-f", "-", stdin=obj)
    stored = apiserver.get("residencyzone", obj["metadata"]["name"])["spec"]["sites"]
    assert [s["key"] for s in stored] == [{"gcpKms": {"name": next_name}}, {"awsKms": {"arn": next_arn}}]


def test_lists_merge_by_key_under_server_side_apply(apiserver: ApiServer) -> None:
    obj = tenant()
    apiserver.apply(obj, manager="one")
    other = {
        **obj,
        "spec": {**obj["spec"], "assistants": [{"name": "sales", "mode": "free", "image": "i", "envSecrets": ["s"]}]},
    }
    apiserver.apply(other, manager="two")
    name = obj["metadata"]["name"]
    assistants = apiserver.get("at", name)["spec"]["assistants"]
    assert {a["name"] for a in assistants} == {"support", "sales"}
    obj["spec"]["assistants"][0]["envSecrets"] = ["x"]
    obj["spec"]["assistants"].append({"name": "sales", "mode": "free", "image": "i", "envSecrets": ["t"]})
    apiserver.apply(obj, manager="one")
    secrets = {a["name"]: a.get("envSecrets") for a in apiserver.get("at", name)["spec"]["assistants"]}
    assert {k: sorted(v) for k, v in secrets.items()} == {"support": ["x"], "sales": ["s", "t"]}


def test_pod_template_keeps_fields_that_the_schema_does_not_know(apiserver: ApiServer) -> None:
    obj = tenant()
    template = {"metadata": {"annotations": {"a": "b"}}, "spec": {"priorityClassName": "high", "tolerations": []}}
    obj["spec"]["assistants"][0]["podTemplate"] = template
    apiserver.kubectl("create", "--validate=strict", "-f", "-", stdin=obj)
    stored = apiserver.get("at", obj["metadata"]["name"])
    assert stored["spec"]["assistants"][0]["podTemplate"] == template


def with_status(apiserver: ApiServer, obj: Object, status: Object) -> None:
    apiserver.kubectl("create", "-f", "-", stdin=obj)
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": "serves here"}
    ready |= {"observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    patch = yaml.safe_dump({"status": {"observedGeneration": 1, "conditions": [ready], **status}})
    apiserver.kubectl(
        "patch", obj["kind"], obj["metadata"]["name"], "--subresource=status", "--type=merge", "-p", patch
    )


def shown(apiserver: ApiServer, *args: str) -> tuple[list[str], list[str]]:
    header, row = apiserver.kubectl("get", *args).stdout.splitlines()
    return header.split(), row.split()


def test_printer_columns_and_names(apiserver: ApiServer) -> None:
    a_zone, a_tenant, a_failover, a_restore = zone(), tenant(), failover(), restore()
    commit = {"seq": 3, "epoch": 1, "cutTime": "2026-01-01T00:00:00Z", "target": "two"}
    with_status(apiserver, a_zone, {"site": "one"})
    with_status(apiserver, a_tenant, {"activeSite": "one", "lastCommit": commit})
    with_status(apiserver, a_failover, {})
    with_status(apiserver, a_restore, {"seq": 7, "phase": "Restored", "holds": False})

    header, row = shown(apiserver, "at", a_tenant["metadata"]["name"])
    assert header == ["NAME", "READY", "ZONE", "ACTIVE-SITE", "LAST-REPLICATION", "AGE"]
    assert row[1:4] == ["True", "eu", "one"]
    assert row[4].endswith(("d", "y"))
    header, row = shown(apiserver, "rz", a_zone["metadata"]["name"])
    assert header == ["NAME", "READY", "JURISDICTION", "SITE", "SITES", "AGE"]
    assert row[1:4] == ["True", "EU", "one"]
    header, row = shown(apiserver, "fo", a_failover["metadata"]["name"])
    assert header == ["NAME", "READY", "ZONE", "TARGET", "MODE", "DRY-RUN", "AGE"]
    assert row[1:6] == ["True", "eu", "two", "emergency", "false"]
    header, row = shown(apiserver, "rst", a_restore["metadata"]["name"])
    assert header == ["NAME", "READY", "TENANT", "INTO", "SNAPSHOT", "PHASE", "DRY-RUN", "AGE"]
    assert row[1:7] == ["True", "bank", "live", "7", "Restored", "false"]
    wide = apiserver.kubectl("get", "at", a_tenant["metadata"]["name"], "-o", "wide").stdout
    assert "REASON" in wide
    assert "serves here" in wide

    names = apiserver.kubectl("get", "domicile", "-o", "name").stdout
    assert {line.split("/")[0] for line in names.splitlines()} == {
        "assistanttenant.domicile.dev",
        "failover.domicile.dev",
        "residencyzone.domicile.dev",
        "restore.domicile.dev",
    }


def test_tenants_are_selectable_by_zone(apiserver: ApiServer) -> None:
    obj = tenant()
    obj["spec"]["zone"] = "selectable"
    apiserver.kubectl("create", "-f", "-", stdin=obj)
    found = apiserver.kubectl("get", "at", "--field-selector=spec.zone=selectable", "-o", "name").stdout.split()
    assert found == [f"assistanttenant.domicile.dev/{obj['metadata']['name']}"]


def test_status_is_a_subresource_of_its_own(apiserver: ApiServer) -> None:
    obj = {**tenant(), "status": {"site": "forged"}}
    apiserver.kubectl("create", "-f", "-", stdin=obj)
    assert "status" not in apiserver.get("at", obj["metadata"]["name"])
