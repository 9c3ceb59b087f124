"""How much a real front door takes: of one client, of a whole tenant, at the same time; and who may come to it."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from domicile.controllers.door.door import Edge, Limits
from tests.integration.apiserver import Authority
from tests.integration.door_server import DoorServer, Site, without_login

# A window longer than the test: what is counted in it stays counted.
QUIET = Limits(seconds=600, client_requests=30000, tenant_requests=30000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with without_login(tmp_path_factory.mktemp("door"), limits=QUIET) as made:
        yield made


def client(folder: Path, address: str, certificate: str | None = None) -> httpx.Client:
    """A client at an address of its own on this machine."""
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    if certificate:
        context.load_cert_chain(folder / f"{certificate}.crt", folder / f"{certificate}.key")
    return httpx.Client(transport=httpx.HTTPTransport(verify=context, local_address=address), timeout=30)


def ask(web: httpx.Client, door: DoorServer, times: int, **headers: str) -> Counter[int]:
    return Counter(web.get(door.url + "/a/open/x", headers=headers).status_code for _ in range(times))


def at(site: Site, address: str) -> httpx.Client:
    return client(site.door.folder.parent, address)


def test_one_client_is_stopped_and_others_are_not(site: Site) -> None:
    site.configure(limits=replace(QUIET, client_requests=20))
    busy, other = at(site, "127.0.0.11"), at(site, "127.0.0.12")
    first = ask(busy, site.door, 30)
    assert first[200] in range(19, 22)
    assert first[429] == 30 - first[200]
    refused = busy.get(site.door.url + "/a/open/x")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "600")
    assert ask(other, site.door, 15) == {200: 15}
    assert ask(busy, site.door, 5, **{"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1"}) == {429: 5}


def test_a_client_that_waits_is_served_again(site: Site) -> None:
    site.configure(limits=replace(QUIET, seconds=2, client_requests=5))
    busy = at(site, "127.0.0.13")
    assert ask(busy, site.door, 12)[429] > 0
    told = busy.get(site.door.url + "/a/open/x").headers["retry-after"]
    time.sleep(int(told) + 1)
    assert ask(busy, site.door, 1) == {200: 1}


def test_a_tenant_is_stopped_and_another_is_not(site: Site, tmp_path: Path) -> None:
    with without_login(tmp_path, limits=QUIET) as neighbour:
        site.configure(limits=replace(QUIET, tenant_requests=40))
        clients = [at(site, f"127.0.0.{20 + n}") for n in range(4)]
        answers = sum((ask(c, site.door, 15) for c in clients), Counter())
        assert answers[200] in range(38, 42)
        assert answers[429] == 60 - answers[200]
        assert ask(at(neighbour, "127.0.0.20"), neighbour.door, 30) == {200: 30}
        assert site.door.healthy()


def test_one_client_does_not_use_up_the_tenant(site: Site) -> None:
    """It is told 429, and after some of those loses its connections."""
    site.configure(limits=replace(QUIET, client_requests=20, tenant_requests=60))
    stubborn, answers = at(site, "127.0.0.31"), Counter[int]()
    for _ in range(100):
        try:
            answers += ask(stubborn, site.door, 1)
        except httpx.TransportError:
            answers[0] += 1
    assert answers[429] in range(19, 23)
    assert answers[0] > 50
    assert ask(at(site, "127.0.0.32"), site.door, 15) == {200: 15}


def test_requests_at_the_same_time_have_a_limit(site: Site) -> None:
    site.configure(limits=replace(QUIET, parallel=4))
    site.assistant.go_on.clear()
    started = threading.Semaphore(0)

    def stream(number: int) -> int:
        web = at(site, f"127.0.0.{40 + number}")
        with web.stream("GET", site.door.url + "/a/open/stream") as answer:
            started.release()
            answer.read()
            return answer.status_code

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(stream, number) for number in range(8)]
        for _ in range(8):
            assert started.acquire(timeout=20)
        site.assistant.go_on.set()
        answers = Counter(r.result(30) for r in running)
    assert answers == {200: 4, 429: 4}


def test_one_client_has_so_many_connections(site: Site) -> None:
    site.configure(limits=replace(QUIET, client_connections=3))
    held = [at(site, "127.0.0.60") for _ in range(3)]
    assert [ask(c, site.door, 1) for c in held] == [{200: 1}] * 3
    with pytest.raises(httpx.TransportError):
        ask(at(site, "127.0.0.60"), site.door, 1)
    assert ask(at(site, "127.0.0.61"), site.door, 1) == {200: 1}


def test_behind_an_edge_only_it_may_come_and_clients_are_those_that_it_names(site: Site) -> None:
    site.configure(limits=replace(QUIET, client_requests=20), edge=Edge(cidrs=("127.0.0.70/31", "10.0.0.0/8")))
    edge, stranger = at(site, "127.0.0.70"), at(site, "127.0.0.72")
    assert ask(stranger, site.door, 1, **{"X-Forwarded-For": "127.0.0.70"}) == {403: 1}
    site.assistant.seen.clear()
    busy = ask(edge, site.door, 30, **{"X-Forwarded-For": "198.51.100.1"})
    assert busy[429] in range(9, 13)
    assert ask(edge, site.door, 5, **{"X-Forwarded-For": "198.51.100.2"}) == {200: 5}
    # What a client wrote there itself stands before what the edge has added.
    spoofed = sum(
        (ask(edge, site.door, 1, **{"X-Forwarded-For": f"192.0.2.{n}, 198.51.100.1"}) for n in range(5)), Counter()
    )
    assert spoofed == {429: 5}
    assert not [s for s in site.assistant.seen if s.header("X-Forwarded-For")]


def test_an_edge_shows_its_certificate(tmp_path: Path) -> None:
    ours = tmp_path / "edge"
    ours.mkdir()
    Authority(ours).issue("edge", "edge")
    with without_login(tmp_path, limits=QUIET, edge_ca=(ours / "ca.crt").read_text()) as site:
        for kind in ("crt", "key"):
            (tmp_path / f"edge.{kind}").write_bytes((ours / f"edge.{kind}").read_bytes())
        Authority(tmp_path).issue("stranger", "stranger")
        assert ask(client(tmp_path, "127.0.0.1", "edge"), site.door, 1) == {200: 1}
        for certificate in (None, "stranger"):
            with pytest.raises(httpx.TransportError):
                ask(client(tmp_path, "127.0.0.1", certificate), site.door, 1)
        assert site.door.healthy()


def test_httpds_own_pages_are_nobodys(site: Site) -> None:
    site.configure(limits=replace(QUIET, client_requests=29000))
    probes = httpx.Client(base_url=f"http://127.0.0.1:{site.door.door.health_port}")
    assert probes.get("/healthz").text == "ok"
    for page in ("/server-status", "/server-info", "/balancer-manager", "/qos-viewer", "/metrics"):
        assert at(site, "127.0.0.1").get(site.door.url + page).status_code == 403
        assert probes.get(page).status_code == 404
