"""Who logs people in, through the site's way out: a real Keycloak by a name that nobody but squid can resolve."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from domicile import forwarding
from domicile.api.sites import ServedZone
from domicile.api.sso import Sso
from domicile.api.zone import ApprovedIssuer
from domicile.controllers.egress.accounts import Destination
from domicile.controllers.issuer.issuers import Issuers
from domicile.controllers.pki import holders
from domicile.controllers.realm.desired import Subject
from domicile.controllers.realm.realms import Realms
from tests.integration import egress_server, identity_server
from tests.integration.door_realm import Estate, estate
from tests.integration.door_server import until
from tests.integration.egress_server import ALICE, BOB, HERE, PASSWORDS, PORT, WayOut, own_network, soon
from tests.integration.foreign_issuer import ForeignIssuer
from tests.integration.stores_fixture import free_port
from tests.pods import mounted
from tests.testbed.keycloak import ADMIN_ID, KeycloakServer
from tests.unit.views import zone_spec

SSO, UNLISTED = "sso.example.com", "login.example.com"


@dataclass
class House:
    """The way out, and Keycloak: as it is here, and as everybody else calls it."""

    way: WayOut
    keycloak: KeycloakServer
    public: KeycloakServer

    @property
    def listed(self) -> tuple[Destination, ...]:
        return (Destination(SSO, self.public.port),)

    def of(self, account: str, host: str = SSO, event: str = "opened") -> list[dict[str, Any]]:
        """What the way out has decided."""
        return self.way.decisions(event=event, account=account, host=host)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with ExitStack() as stack:
        stack.enter_context(own_network())
        way = stack.enter_context(egress_server.way_out(tmp_path_factory.mktemp("egress")))
        for host in (SSO, UNLISTED):
            way.names.put(host, HERE)
        keycloak = stack.enter_context(identity_server.running(tmp_path_factory.mktemp("keycloak"), host=SSO))
        made = House(way, keycloak, replace(keycloak, address=SSO))
        way.list(alice=made.listed)
        yield made


@pytest.fixture
def proxy(house: House, tmp_path: Path) -> str:
    """The operator's own, in this process: it can look up nothing, and goes through the way out by its account."""
    files = mounted(tmp_path / "way-out", holders.outwards("domicile-system"), house.way.authority)
    (files / forwarding.ACCOUNT).write_text(f"{ALICE}:{PASSWORDS[ALICE]}")
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo(SSO, house.public.port)
    return forwarding.start({"DOMICILE_WAY_OUT": f"localhost:{PORT}", "DOMICILE_WAY_OUT_DIR": str(files)})


async def test_the_operator_makes_a_realm_through_it(house: House, proxy: str, tmp_path: Path) -> None:
    keycloak = house.public
    (tmp_path / "eu.json").write_text(f'{{"clientId": "{ADMIN_ID}", "clientSecret": "{keycloak.admin_secret}"}}')
    (tmp_path / "eu.pem").write_bytes(keycloak.authority.read_bytes())
    subject = Subject("bank", "1" * 32, ("helpdesk",), "bank.example", "c" * 32, {})

    async def made(**identity: Any) -> tuple[str, str] | None:
        zone = ServedZone(name="eu", site="gcp-frankfurt", spec=zone_spec(identity={"url": keycloak.url, **identity}))
        return (await Realms(tmp_path, proxy=proxy).see_to(zone, subject, Sso(local_users=True))).error

    seen = len(house.of(ALICE))
    assert await made() is None
    assert len(house.of(ALICE)) > seen
    assert {(line["port"], line["sni"]) for line in house.of(ALICE)} == {(keycloak.port, SSO)}
    # Pods of the cluster are no way out.
    refused = await made(pods={"namespace": "sso", "labels": {"app": "sso"}, "port": 8443})
    assert refused is not None
    assert refused[0] == "IdentityServerUnreachable"
    elsewhere = await made(adminUrl=f"https://{UNLISTED}:{keycloak.port}")
    assert elsewhere is not None
    assert elsewhere[0] == "IdentityServerUnreachable"
    await soon("it is in the log", lambda: bool(house.of(ALICE, UNLISTED, "refused")))


async def test_somebody_elses_issuer_is_looked_at_and_asked_through_it(house: House, proxy: str) -> None:
    foreign = ForeignIssuer(house.keycloak)
    issuer = f"{house.public.url}/realms/{foreign.realm}"
    external = foreign.spec(issuer=issuer)

    def approved(issuer: str) -> ApprovedIssuer:
        return foreign.approved(issuer=issuer, hosts=[SSO])

    await asyncio.to_thread(foreign.create, "https://bank.example")
    seen = len(house.of(ALICE))
    state = await Issuers(proxy=proxy).look(external, approved(issuer), foreign.authorities, foreign.secret)
    assert state.error is None
    assert state.keys
    assert len(house.of(ALICE)) > seen
    wrong = await Issuers(proxy=proxy).look(external, approved(issuer), foreign.authorities, "no-such-secret-here")
    assert wrong.error is not None
    assert wrong.error[0] == "IssuerRefusesClient"
    other = issuer.replace(SSO, UNLISTED)
    unlisted = await Issuers(proxy=proxy).look(
        external.model_copy(update={"issuer": other}), approved(other), foreign.authorities, None
    )
    assert unlisted.error is not None
    assert unlisted.error[0] == "IssuerUnreachable"


@pytest.fixture
def people(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    """A tenant's door, and people elsewhere, who can look up names."""
    looked_up = socket.getaddrinfo

    def elsewhere(host: Any, *more: Any, **named: Any) -> Any:
        return looked_up(HERE if host in {SSO, SSO.encode()} else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", elsewhere)
    with estate(house.keycloak, tmp_path, public=house.public, pods=house.way.authority) as made:
        yield made


def test_people_log_in_at_a_door_that_asks_through_it(house: House, people: Estate) -> None:
    def gets_in(name: str) -> bool:
        """Somebody new: a one-time password counts once."""
        people.realm.user(name, "member")
        page = people.visitor(name).visit(f"{people.door.url}/helpdesk/x")
        # The module tells people of its own failures with 200.
        failed = "OpenID Connect Provider error" in page.text
        assert failed != bool(people.assistant.seen)
        return not failed

    assert not gets_in("ann"), "without it the door finds nobody to ask"
    port = free_port()
    tunnel = people.store.tunnel(WAY_OUT=f"localhost:{PORT}", WAY_OUT_PORT=port)
    people.door.configure(replace(people.door.door, proxy=f"127.0.0.1:{port}"))
    assert not gets_in("ben"), "no account yet, as where the operator makes it after the pod has started"
    until("it is told", lambda: bool(tunnel.events("way-out")))
    place = tunnel.folder / "mounts" / "way-out"
    place.mkdir()
    (place / forwarding.ACCOUNT).write_text(f"{BOB}:{PASSWORDS[BOB]}")
    house.way.list(alice=house.listed, bob=(Destination("b.example.com"),))
    assert not gets_in("cat"), "an account that may go elsewhere"
    until("it is refused", lambda: bool(house.of(BOB, event="refused")))
    house.way.list(alice=house.listed, bob=house.listed)
    assert gets_in("dan")
    [seen] = people.assistant.seen
    assert seen.header("Domicile-Identity")
    until("it is in the log", lambda: bool(house.of(BOB)))
    told = " ".join(line["message"] for line in tunnel.events("way-out"))
    assert "not-listed" in told
    assert PASSWORDS[BOB] not in tunnel.out + tunnel.err
