"""People's sessions while the certificates between door and session store change, and who can't touch whose."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.integration import door_server
from tests.integration.door_realm import Estate, Visitor, estate
from tests.integration.session_server import STORE
from tests.pods import DOOR, authority, certificates
from tests.testbed.keycloak import KeycloakServer

API = "/helpdesk/api/x"


@pytest.fixture(scope="module")
def site(keycloak: KeycloakServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with estate(keycloak, tmp_path_factory.mktemp("door")) as made:
        yield made


@contextmanager
def using(site: Estate, person: Visitor) -> Iterator[list[int]]:
    """A person who asks one thing after the other; the statuses of the answers."""
    answers: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.02):
            answers.append(person.at(site.door, API).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()


def test_sessions_and_requests_go_on_through_a_new_leaf_and_a_new_authority(site: Estate) -> None:
    person, old, new = site.person("member"), site.store.authority, authority()
    way = site.store.way
    with using(site, person) as answers:
        for signer, trusted in ((old, (old,)), (old, (old, new)), (new, (old, new)), (new, (new,))):
            for server, holder in ((site.store, STORE), (way, DOOR)):
                server.mount(server.tls, certificates(holder, signer, *trusted))
                seen = len(answers)
                door_server.until("an answer", lambda seen=seen: len(answers) > seen + 1)  # type: ignore[misc]
    site.store.authority = new
    assert set(answers) == {200}
    # A door that starts now opens its connections by the new certificates only.
    assert person.at(site.another(), API).status_code == 200


def test_a_tunnel_that_comes_back_costs_nobody_a_session(site: Estate) -> None:
    person = site.person("member")
    door_server.end(site.store.way.process)
    assert person.at(site.door, API).status_code != 200
    site.store.way.start()
    assert person.at(site.door, API).status_code == 200


def test_a_session_is_none_at_another_tenants_door_and_can_not_be_ended_there(site: Estate) -> None:
    """Keys in the store are hashes over a passphrase that one tenant has; the account in the store is everybody's."""
    ann = site.person("member")
    theirs = replace(site.hidden, passphrase=secrets.token_hex(24))
    other = site.another(hidden=theirs)
    assert ann.at(other, API).status_code == 401
    logout = f"/oauth2/callback?logout=https://{site.door.door.host}/"
    ann.at(other, logout, headers={"Sec-Fetch-Site": "same-origin"})
    assert ann.at(site.door, API).status_code == 200
    assert "NOPERM" in site.store.ask("SCAN", "0")
