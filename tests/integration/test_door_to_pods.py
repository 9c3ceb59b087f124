"""The way from a door to an assistant's pods: certificates at both ends, refused where they are not theirs, renewed
under requests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest

from domicile.controllers.door.door import Limits
from domicile.controllers.pki.authority import Authority
from domicile.controllers.pki.leaf import Holder
from tests.integration.door_server import Site, until, without_login
from tests.pods import DOOR, GUARD, PODS, authority, certificates


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    unlimited = Limits(seconds=1, client_requests=30000, tenant_requests=1000000)
    with without_login(tmp_path_factory.mktemp("door"), limits=unlimited) as site:
        yield site


def asked(site: Site) -> int:
    return site.web.get("/a/open").status_code


def mount(site: Site, signer: Authority, *trusted: Authority) -> None:
    """Give the door other certificates for its way in, and wait until they are taken."""
    before = len(site.door.events("reloaded"))
    site.door.volumes["pods"].put(certificates(DOOR, signer, *trusted))
    until("the reload", lambda: len(site.door.events("reloaded")) > before)


IMPOSTORS = {
    "another assistant": Holder("bank", "reports", "", ("reports.bank.svc",)),
    "one that only calls": Holder("bank", "helpdesk", ""),
    "of another authority": GUARD,
}


@pytest.mark.parametrize("who", IMPOSTORS)
def test_what_does_not_prove_to_be_the_assistant_hears_nothing(site: Site, who: str) -> None:
    assert asked(site) == 200
    signer = authority() if who.startswith("of another") else PODS
    # It believes the door, in any case.
    site.assistant.show(certificates(IMPOSTORS[who], signer, signer, PODS))
    # Connections from before are the old one's.
    mount(site, PODS)
    try:
        # What httpd answers where the other end of a proxied connection is not whom it should be.
        until("a refusal", lambda: asked(site) == 500)
        site.assistant.seen.clear()
        assert [asked(site) for _ in range(5)] == [500] * 5
        assert "not whom it should be" in site.web.get("/a/open").text
        assert site.assistant.seen == []
    finally:
        site.assistant.show(certificates(GUARD))
    until("the assistant is back", lambda: asked(site) == 200)


def test_authorities_follow_each_other_without_a_lost_request(site: Site) -> None:
    new, answers, done = authority(), list[int](), threading.Event()

    def ask() -> None:
        # A kept connection to the door may end just when it is used again; those to the assistant are kept.
        fresh = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=site.door.url, verify=False, limits=fresh) as web:
            while not done.is_set():
                answers.append(web.get("/a/open").status_code)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for each in asking:
        each.start()

    def some() -> None:
        before = len(answers)
        until("answers", lambda: len(answers) > before + 20)

    try:
        for step in (
            lambda: mount(site, PODS, PODS, new),
            lambda: site.assistant.show(certificates(GUARD, PODS, PODS, new)),
            lambda: mount(site, new, PODS, new),
            lambda: site.assistant.show(certificates(GUARD, new, PODS, new)),
            lambda: mount(site, new, new),
            lambda: site.assistant.show(certificates(GUARD, new)),
        ):
            step()
            some()
    finally:
        done.set()
        for each in asking:
            each.join()
        site.assistant.show(certificates(GUARD, PODS, PODS, new))
        mount(site, PODS)
    assert set(answers) == {200}


def test_broken_certificates_are_told_and_the_old_ones_stay(site: Site) -> None:
    whole = certificates(DOOR)
    for name, why in (("identity.pem", "no pair of certificate and key"), ("ca.crt", "holds no certificates")):
        before = len(site.door.events("refused"))
        site.door.volumes["pods"].put(whole | {name: b"broken"})
        until("the refusal", lambda before=before: len(site.door.events("refused")) > before)
        assert why in site.door.events("refused")[-1]["message"]
        assert asked(site) == 200
    mount(site, PODS)
    assert asked(site) == 200
