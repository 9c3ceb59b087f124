"""The way out without servers: its list, its config and its log."""

from __future__ import annotations

import base64
import ipaddress
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import assume, given
from hypothesis import strategies as st

from domicile.api.zone import ResidencyZoneSpec, Site
from domicile.backup.stores import way_out
from domicile.controllers.egress import own
from domicile.controllers.egress.accounts import OWN, Account, Destination, digest, render
from domicile.controllers.egress.destinations import destinations, services
from domicile.gateway.egress import helper, squid_conf, tls
from domicile.gateway.egress.accounts import PUBLIC, UnknownError, again, decide, parse
from domicile.gateway.egress.decisions import HEALTH, WORDS, decision
from domicile.gateway.egress.squid import Settings
from tests.unit.views import tenant_spec, zone_spec

ONE, TWO = "1" * 32, "2" * 32
INSIDE = ("10.9.0.0/24", "fd12::/48")
BOOK = parse(
    render(
        [
            Account(TWO, digest("second"), (Destination("b.example"),)),
            Account(ONE, digest("first"), (Destination("a.example"), Destination("on.example", 8443, INSIDE))),
        ]
    ).encode()
)


def basic(account: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{account}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "A.example", "a.example.", "*.example", ".example", "10.0.0.1", "1.2", "a.1", "a.0x7f", "[::1]",
     "a b.example", "a.example\n", "a..example", "-a.example", "a/b.example", "a.example:443", f"{'a' * 64}.example"],
)  # fmt: skip
def test_a_destination_is_a_full_name_and_nothing_else(host: str) -> None:
    with pytest.raises(ValueError, match="full name"):
        Destination(host)


def _site(**stores: Any) -> Site:
    aws = {"name": "aws-frankfurt", "cloud": "aws", "region": "eu-central-1", "key": {"name": "k"}}
    named = {"replica": "r-one", "keys": "k-one", "control": "c-one", "live": {"createPrefix": "live"}}
    return Site.model_validate(aws | {"stores": {"profile": "cloud", "accountId": "123456789012", **named, **stores}})


def _zone(*sites: Site, **changes: Any) -> ResidencyZoneSpec:
    return zone_spec(**changes).model_copy(update={"sites": list(sites)})


def test_the_installation_reaches_regional_endpoints_of_its_sites() -> None:
    google = {"name": "gcp-frankfurt", "cloud": "gcp", "region": "europe-west3"}
    gcp = Site.model_validate(_site(accountId=None).to_wire() | google)
    found = own.stores([_zone(_site(), gcp)])
    assert {d.host for d in found if "amazonaws" in d.host} == {
        "s3.eu-central-1.amazonaws.com",
        "kms.eu-central-1.amazonaws.com",
        "sts.eu-central-1.amazonaws.com",
    }
    assert {d.host for d in found if "amazonaws" not in d.host} == {
        "storage.europe-west3.rep.googleapis.com",
        "cloudkms.europe-west3.rep.googleapis.com",
        "oauth2.googleapis.com",
        *(f"{s}{place}.googleapis.com" for s in ("sts", "iamcredentials") for place in ("", ".europe-west3.rep")),
    }
    assert {(d.port, d.cidrs) for d in found} == {(443, ())}


TODAY = date(2026, 11, 1)
IDENTITY = {"url": "https://sso.acme.example", "adminUrl": "https://sso-admin.acme.example:9443"}
ISSUER = {
    "issuer": "https://login.acme.example/Tenant",
    "hosts": ["keys.acme.example"],
    "port": 8443,
    "place": "Frankfurt am Main",
    "statement": "Contract of 3 May, annex 2",
    "attestedOn": "2026-05-03",
    "expiresOn": "2099-05-03",
}


@pytest.mark.parametrize(
    ("zone", "found"),
    [
        ({"identity": IDENTITY}, {Destination("sso-admin.acme.example", 9443)}),
        (
            {"identity": IDENTITY | {"cidrs": ["10.7.0.0/24"]}},
            {Destination("sso-admin.acme.example", 9443, ("10.7.0.0/24",))},
        ),
        ({"identity": {"url": "https://sso.acme.example"}}, {Destination("sso.acme.example")}),
        ({"identity": IDENTITY | {"pods": {"namespace": "sso", "labels": {"app": "sso"}, "port": 8443}}}, set()),
        ({"identity": {"url": IDENTITY["url"], "adminUrl": "https://keycloak.sso.svc"}}, set()),
        (
            {"externalIssuers": [ISSUER | {"cidrs": ["10.8.0.0/24"]}]},
            {
                Destination("login.acme.example", 443, ("10.8.0.0/24",)),
                Destination("login.acme.example", 8443, ("10.8.0.0/24",)),
                Destination("keys.acme.example", 8443, ("10.8.0.0/24",)),
            },
        ),
    ],
    ids=["its own", "private", "one for all", "pods", "a Service", "another's"],
)
def test_the_installation_reaches_who_logs_people_in(zone: dict[str, Any], found: set[Destination]) -> None:
    assert set(own.logins([_zone(**zone)], TODAY)) == found


def test_an_environment_leads_no_session_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://elsewhere.example:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/elsewhere.pem")
    url = "https://s3.acme.example"

    def equipped(roots: str | None) -> Any:
        session = requests.Session()
        way_out.equip(session, url, roots)
        return session.merge_environment_settings(url, {}, False, None, None)

    assert equipped(None)["verify"] == "/elsewhere.pem"
    # Without a way out the environment's proxy is as good as before.
    own = equipped("/own.pem")
    assert (own["verify"], own["proxies"]["https"]) == ("/own.pem", "http://elsewhere.example:3128")
    way_out.use("http://127.0.0.1:3128")
    try:
        led = equipped(None)
    finally:
        way_out.use(None)
    assert (led["verify"], led["proxies"]["https"]) == (True, "http://127.0.0.1:3128")


def test_networks_of_a_store_are_the_stores_alone_and_no_host_is_there_twice() -> None:
    """Services of a cloud are shared by sites with networks of their own."""
    google = {"name": "gcp-frankfurt", "cloud": "gcp", "region": "europe-west3"}
    wire = _site(accountId=None, endpointCidrs=["10.1.0.0/16"]).to_wire() | google
    paris = google | {"name": "gcp-paris", "region": "europe-west9"}
    other = _site(accountId=None, endpointCidrs=["10.2.0.0/16"]).to_wire() | paris
    same = _site(accountId=None, endpointCidrs=["10.3.0.0/16"]).to_wire() | google
    found = own.stores([_zone(Site.model_validate(w)) for w in (wire, other, same)])
    assert {d.host: d.cidrs for d in found if d.cidrs} == {
        "storage.europe-west3.rep.googleapis.com": ("10.1.0.0/16", "10.3.0.0/16"),
        "storage.europe-west9.rep.googleapis.com": ("10.2.0.0/16",),
    }
    book = parse(render([Account(OWN, digest("ours"), found)]).encode())
    assert decide(book, basic(OWN, "ours"), "sts.googleapis.com", "443").reason == "allowed"
    with pytest.raises(ValueError, match="twice"):
        Account(OWN, digest("ours"), (Destination("a.example"), Destination("a.example", 443, ("10.1.0.0/16",))))


def test_a_key_that_was_is_reached_until_the_rewrap() -> None:
    arn = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    wire = _site(profile="compatible", endpoint="http://10.0.0.5:9000", accountId=None).to_wire()
    key = {"name": "k", "previous": [{"awsKms": {"arn": arn}}]}
    found = own.stores([_zone(Site.model_validate(wire | {"key": key}))])
    assert {d.host.partition(".")[0] for d in found} == {"kms", "sts"}


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("https://s3.acme.example:9000", {("s3.acme.example", 9000)}),
        ("http://s3.acme.example:9000", set()),
        ("https://minio:9000", set()),
        ("https://minio.stores.svc:9000", set()),
        ("https://minio.stores.svc.cluster.local:9000", set()),
        ("https://10.9.0.7:9000", set()),
        ("https://s3.acme.example.:9000", set()),
    ],
)
def test_what_has_no_tls_or_no_full_name_is_reached_directly(endpoint: str, found: set[tuple[str, int]]) -> None:
    site = _site(profile="compatible", endpoint=endpoint)
    assert {(d.host, d.port) for d in own.stores([_zone(site)])} == found
    way_out.use("http://127.0.0.1:3128")
    try:
        assert bool(way_out.proxies(endpoint)) == bool(way_out.place(endpoint)) == bool(found)
        assert way_out.proxies() == {"https": "http://127.0.0.1:3128"}
    finally:
        way_out.use(None)
    assert not way_out.proxies(endpoint)
    assert way_out.place(endpoint) is None


def test_networks_where_nothing_may_be_close_a_store_and_are_told() -> None:
    found = own.stores([_zone(_site(endpointCidrs=["169.254.0.0/16"]))])
    assert {d.host.partition(".")[0] for d in found} == {"kms", "sts"}
    [told] = own.faults(_zone(_site(endpointCidrs=["169.254.0.0/16"])), TODAY)
    assert told.startswith("s3.eu-central-1.amazonaws.com: 169.254.0.0/16 ")


def test_a_zone_closes_nothing_of_anothers() -> None:
    """Each zone's networks are looked at by themselves, and logins are no part of what stores need."""
    google = _site(accountId=None).to_wire() | {"name": "gcp-frankfurt", "cloud": "gcp", "region": "europe-west3"}
    stores = _zone(Site.model_validate(google))
    theirs = ISSUER | {"issuer": "https://accounts.google.com", "hosts": ["oauth2.googleapis.com"], "port": 443}
    other = _zone(externalIssuers=[theirs | {"cidrs": ["142.250.0.0/15"]}])
    assert Destination("oauth2.googleapis.com") in own.stores([stores, other])
    good, bad = (_zone(externalIssuers=[ISSUER | {"cidrs": [c]}]) for c in ("203.0.113.0/24", "0.0.0.0/0"))
    assert own.logins([good, bad], TODAY) == own.logins([good], TODAY) != ()
    assert own.faults(good, TODAY) == ()
    hosts = {fault.split(":")[0] for fault in own.faults(bad, TODAY)}
    assert hosts == {"login.acme.example", "keys.acme.example"}
    door = {"adminUrl": "https://keycloak.sso.svc", "doorUrl": "https://gate.acme.example", "cidrs": ["127.0.0.0/8"]}
    [told] = own.faults(_zone(identity=IDENTITY | door), TODAY)
    assert told.startswith("gate.acme.example: ")


def test_zones_that_share_a_host_share_its_networks() -> None:
    zones = [_zone(identity=IDENTITY | {"cidrs": cidrs}) for cidrs in ([], ["10.7.0.0/24"], ["10.8.0.0/24"])]
    found = own.logins(zones, TODAY)
    assert found == (Destination("sso-admin.acme.example", 9443, ("10.7.0.0/24", "10.8.0.0/24")),)


def test_who_nobody_vouches_for_today_is_not_reached() -> None:
    zone = _zone(externalIssuers=[ISSUER | {"cidrs": ["203.0.113.0/24"], "expiresOn": "2026-11-02"}])
    assert own.logins([zone], date(2026, 11, 1))
    assert own.logins([zone], date(2026, 11, 2)) == ()


def _accepted(cidr: str) -> bool:
    try:
        Destination("a.example", 443, (cidr,))
    except ValueError:
        return False
    return True


@given(
    st.sampled_from([*squid_conf.NEVER, "10.0.0.0/8", "100.64.0.0/10", "::ffff:0:0/96", "fd00::/8", "203.0.113.0/24"]),
    st.integers(-6, 6),
    st.integers(-2, 2),
)
def test_what_the_operator_writes_squid_takes(near: str, longer: int, beside: int) -> None:
    """One network that it does not take would freeze all lists."""
    network = ipaddress.ip_network(near)
    length = min(max(network.prefixlen + longer, 0), network.max_prefixlen)
    size = 1 << (network.max_prefixlen - length)
    start = (int(network.network_address) // size + beside) * size
    assume(0 <= start < 1 << network.max_prefixlen)
    wanted = str(ipaddress.ip_network((start, length))) if network.version == 4 or start >= 1 << 32 else near
    if _accepted(wanted):
        assert squid_conf.outside((wanted,))


def test_metadata_is_no_destination() -> None:
    assert not any(_accepted(network) for network in squid_conf.NEVER)


@pytest.mark.parametrize(
    "cidr", ["0.0.0.0/0", "127.0.0.0/8", "169.254.1.0/24", "::/0", "::ffff:10.0.0.0/104", "10.0.0.1/8"]
)
def test_nobody_allows_the_pod_itself_or_everything(cidr: str) -> None:
    with pytest.raises(ValueError, match=r"no destination may be|host bits"):
        Destination("a.example", 443, (cidr,))


def test_who_asks_is_told_by_the_password_and_what_by_the_accounts_own_list() -> None:
    first = basic(ONE, "first")
    assert decide(BOOK, first, "A.example.", "443") == (ONE, PUBLIC, "allowed")
    assert decide(BOOK, first, "b.example", "443") == (ONE, None, "not-listed")
    assert decide(BOOK, first, "a.example", "8443") == (ONE, None, "port")
    assert decide(BOOK, first, "a.example", "0443") == (ONE, None, "port")
    assert decide(BOOK, basic(ONE, "second"), "a.example", "443") == (None, None, "credential")
    assert again(BOOK, ONE, "a.example", "443").route == PUBLIC
    assert again(BOOK, "", "a.example", "443").reason == "credential"


def test_the_helper_answers_squids_words(tmp_path: Path) -> None:
    file = tmp_path / "accounts.json"
    file.write_text(render([Account(ONE, digest("first"), (Destination("a.example"),))]))
    known = helper.List(file)
    tagged = f"route=public clt_conn_tag={ONE}"
    assert helper.connect((basic(ONE, "first"), "", "a.example", "443", ""), known) == (
        f"OK reason=allowed account={ONE} stage=asked {tagged}"
    )
    assert helper.connect(("", ONE, "a.example", "443", ""), known) == (
        f"OK reason=allowed account={ONE} stage=tunnel {tagged}"
    )
    assert helper.connect((basic(ONE, "?"), ONE, "a.example", "443", ""), known) == "ERR reason=credential"
    assert helper.connect((basic(ONE, "first"), "", "b.example", "443", ""), known) == (
        f"ERR reason=not-listed account={ONE} stage=asked"
    )
    assert helper.connect(("", "", "a.example", "443", ""), known) == "ERR reason=credential"
    new = tmp_path / "new"
    new.write_text(render([]))
    new.replace(file)
    assert helper.connect(("", ONE, "a.example", "443", ""), known) == "ERR reason=credential"
    file.write_text("{")
    with pytest.raises(UnknownError):
        helper.connect(("", ONE, "a.example", "443", ""), known)


@pytest.mark.parametrize(
    ("sni", "told"),
    [
        ("a.example", "OK"),
        ("A.EXAMPLE", "OK"),
        ("", "ERR late=sni-mismatch"),
        ("b.example", "ERR late=sni-mismatch"),
        ("a.example\n1 a.example a.example -", "ERR late=sni-mismatch"),
    ],
)
def test_the_name_in_tls_is_the_one_that_was_asked_for(sni: str, told: str) -> None:
    assert helper.name(("a.example", sni, "")) == told


def test_what_a_client_chooses_goes_to_the_helper_encoded() -> None:
    """Else a line break in a name in TLS would be a question of its own (seen with squid 5.7)."""
    config = squid_conf.render(
        folder=Path("/f"), runtime=Path("/r"), port=3128, nameservers=(), helper="helper", routes=BOOK.routes
    )
    lines = [line for line in config.splitlines() if line.startswith(("external_acl_type", "logformat"))]
    assert len(lines) == 3
    words = [w for line in lines for w in line.split() if w.startswith("%") and ("rd" in w or "sni" in w or "{" in w)]
    assert len(words) == 11
    assert all(w.startswith("%#") for w in words)


def test_named_private_addresses_are_a_route_of_their_own() -> None:
    route = decide(BOOK, basic(ONE, "first"), "on.example", "8443").route
    assert route in BOOK.routes
    assert BOOK.routes[route or ""] == INSIDE


def refused(networks: tuple[str, ...], address: str) -> bool:
    """As squid reads it, which keeps IPv4 as ::ffff:0:0/96."""
    wanted = ipaddress.ip_address(address)
    return any(wanted in ipaddress.ip_network(n) for n in squid_conf.outside(networks))


def test_what_is_outside_a_route_is_everything_but_its_networks() -> None:
    assert not refused((), "93.184.215.14")
    assert not refused((), "2606:2800::1")
    for address in ("10.1.1.1", "198.18.0.1", "fd00::1", "64:ff9b::1", "2002::1"):
        assert refused((), address)
    for address in ("10.9.0.7", "fd12::1"):
        assert not refused(INSIDE, address)
    for address in ("10.9.1.1", "93.184.215.14", "fd13::1", "2606:2800::1", "169.254.169.254"):
        assert refused(INSIDE, address)
    assert refused(("fd00::/8",), "fd00:ec2::254"), "a cloud's metadata, whatever is allowed"


@pytest.mark.parametrize("networks", [(), INSIDE, ("10.0.0.0/8",)])
def test_no_rule_for_ipv6_is_one_for_all_of_ipv4(networks: tuple[str, ...]) -> None:
    mapped = ipaddress.ip_network("::ffff:0:0/96")
    six = [n for n in map(ipaddress.ip_network, squid_conf.outside(networks)) if n.version == 6]
    assert six
    assert not [n for n in six if n.overlaps(mapped)]
    with pytest.raises(UnknownError):
        squid_conf.outside(("127.0.0.0/24",))


def words(**changed: str) -> str:
    known = dict.fromkeys(WORDS, "-") | {
        "time": "1700000000.123", "client": "10.0.0.5", "method": "CONNECT", "host": "a.example", "port": "443",
        "account": ONE, "stage": "asked", "reason": "allowed", "status": "200", "sent": "0", "received": "9", "ms": "3",
    } | changed  # fmt: skip
    return " ".join(known[w] for w in WORDS)


def test_a_line_of_the_log_says_who_what_and_why() -> None:
    told = decision(words(sni="a.example"))
    assert told is not None
    assert (told["event"], told["reason"], told["port"], told["ms"]) == ("opened", "allowed", 443, 3)
    assert told["time"] == "2023-11-14T22:13:20.123Z"
    assert (decision(words(stage="tunnel")) or {})["event"] == "closed"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"reason": "not-listed"}, "not-listed"),
        ({"late": "sni-mismatch"}, "sni-mismatch"),
        ({"mode": "terminate"}, "private-destination"),
        ({"error": "ERR_PROTOCOL_UNKNOWN"}, "not-tls"),
        ({"error": "ERR_DNS_FAIL"}, "dns"),
        ({"error": "ERR_CONNECT_FAIL"}, "unreachable"),
        ({"reason": "-"}, "malformed"),
    ],
)
def test_the_last_thing_decided_is_the_reason(changed: dict[str, str], reason: str) -> None:
    told = decision(words(**changed)) or {}
    assert (told["event"], told["reason"]) == ("refused", reason)


def test_what_a_client_chose_stays_within_its_field() -> None:
    told = decision(words(sni="x%22%7D%0A%7B%22reason%22:%22allowed", reason="credential"))
    assert told is not None
    assert told["sni"] == 'x"}\n{"reason":"allowed'
    assert told["reason"] == "credential"
    assert "\n" not in json.dumps(told)
    assert decision("too few words") == {"event": "refused", "reason": "malformed"}


def test_a_tenant_reaches_its_own_provider_and_what_its_zone_allows_today() -> None:
    word = {"processor": "Acme Ltd", "place": "Ireland", "statement": "The contract of the 3rd of May."}
    word |= {"attestedOn": "2026-01-01", "expiresOn": "2027-01-01"}
    listed = [
        {"host": "api.acme.example", "port": 443, "contract": word},
        {"host": "models.example", "port": 443, "cidrs": ["10.9.0.0/24"], "contract": word},
        {"host": "other.example", "port": 8443, "contract": word},
    ]
    zone = zone_spec(allowedDestinations=listed)
    asked = [{"host": "api.acme.example", "port": 443, "contract": "Acme Ltd"}]
    spec = tenant_spec(network={"additionalEgress": asked})
    local, outside = zone.model_providers
    model = Destination("models.example", 443, ("10.9.0.0/24",))
    assert destinations((local, outside), spec, zone, date(2026, 12, 31)) == (Destination("api.acme.example"), model)
    assert destinations((outside,), spec, zone, date(2027, 1, 1)) == (model,)
    assert destinations((local,), tenant_spec(), zone, date(2026, 2, 1)) == ()


def test_services_are_what_is_asked_for_and_no_models_host() -> None:
    word = {"processor": "Acme Ltd", "place": "Ireland", "statement": "The contract of the 3rd of May."}
    word |= {"attestedOn": "2026-01-01", "expiresOn": "2027-01-01"}
    named = [("api.acme.example", 443), ("api.acme.example", 8443), ("models.example", 443), ("spare.example", 443)]
    listed = [{"host": host, "port": port, "contract": word} for host, port in named]
    zone = zone_spec(allowedDestinations=listed)
    spec = tenant_spec(network={"additionalEgress": [
        {"host": host, "port": port, "contract": "Acme Ltd"} for host, port in named[:3]
    ]})  # fmt: skip
    assert [each.host for each in services(spec, zone, date(2026, 12, 31))] == ["api.acme.example"]
    assert services(spec, zone, date(2027, 1, 1)) == ()
    assert services(tenant_spec(), zone, date(2026, 2, 1)) == ()


def test_looks_at_health_are_no_decisions() -> None:
    assert decision(words(client="127.0.0.1", host=HEALTH)) is None
    assert decision(words(host=HEALTH)) is not None


def test_tls_is_at_the_pods_own_addresses_and_wants_a_certificate() -> None:
    text = tls.config(("10.0.0.5", "fd00::5"), 3129, 3128, Path("/tls"))
    assert "accept = 10.0.0.5:3129\n" in text
    assert "accept = fd00::5:3129\n" in text
    for line in ("verifyChain = yes", "requireCert = yes", "sslVersionMin = TLSv1.3", "protocol = proxy"):
        assert text.count(f"{line}\n") == 2
    with pytest.raises(ValueError, match="DOMICILE_ADDRESSES"):
        tls.read_addresses({})


def test_resolvers_are_addresses() -> None:
    assert Settings.read({"DOMICILE_NAMESERVERS": "10.0.0.10 fd00::a"}).nameservers == ("10.0.0.10", "fd00::a")
    with pytest.raises(ValueError, match="DOMICILE_NAMESERVERS"):
        Settings.read({"DOMICILE_NAMESERVERS": "dns.example"})
