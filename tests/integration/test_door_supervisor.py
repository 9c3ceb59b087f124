"""The supervisor of a real front door: changes arrive without a gap, broken ones not at all, and ends are clean."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from domicile.controllers.door.door import Limits, Secrets
from domicile.controllers.door.httpd import render, render_secrets
from tests.integration.apiserver import Authority
from tests.integration.door_server import Site, contained, family, until, without_login

MANY = Limits(client_requests=30000, tenant_requests=30000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with without_login(tmp_path_factory.mktemp("door"), limits=MANY) as made:
        yield made


class Load:
    """Two clients that open a connection for each request, and what became of all of them."""

    def __init__(self, site: Site) -> None:
        self.answers: list[int] = []
        self._stop = threading.Event()
        self._site = site
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def _run(self) -> None:
        context = ssl.create_default_context(cafile=self._site.door.folder.parent / "ca.crt")
        while not self._stop.wait(0.01):
            host = self._site.door.door.host
            connection = http.client.HTTPSConnection(host, context=context, timeout=20)
            try:
                connection.request("GET", "/a/open/x", headers={"Connection": "close"})
                self.answers.append(connection.getresponse().status)
            except OSError:
                self.answers.append(0)
            finally:
                connection.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


def test_twelve_reloads_under_load_drop_nothing(site: Site) -> None:
    site.assistant.go_on.clear()
    load = Load(site)
    with site.web.stream("GET", "/a/open/stream") as streamed, load.running():
        pieces = streamed.iter_raw()
        assert next(pieces) == b"first"
        for number in range(12):
            site.door.reload(replace(site.door.door, limits=replace(MANY, parallel=150 + number)))
        before = len(load.answers)
        until("requests after the last reload", lambda: len(load.answers) > before + 10)
        site.assistant.go_on.set()
        assert next(pieces) == b"last"
    assert len(load.answers) > 50
    assert set(load.answers) == {200}
    assert [e["count"] for e in site.door.events("reloaded")][-12:] == list(range(1, 13))


def test_a_new_certificate_is_served(site: Site) -> None:
    def serial() -> str:
        return ssl.get_server_certificate(("127.0.0.1", site.door.door.https_port))

    before = serial()
    authority = Authority(site.door.folder.parent)
    authority.issue("renewed", "localhost")
    pair = {f"tls.{kind}": (authority.folder / f"renewed.{kind}").read_bytes() for kind in ("crt", "key")}
    site.door.volumes["tls"].put(pair)
    until("the new certificate", lambda: serial() != before)
    assert serial().split() == pair["tls.crt"].decode().split()


def _broken(site: Site) -> dict[str, tuple[str, dict[str, str | bytes]]]:
    folder = site.door.folder.parent
    Authority(folder).issue("other", "localhost")
    good = render(site.door.door)
    secret = 'OIDCClientSecret "s3cr3t-that-must-not-be-told'
    return {
        "syntax": ("config", {"httpd.conf": good + "Nonsense here\n"}),
        "cut off": ("config", {"httpd.conf": good[: good.rindex("</VirtualHost>")]}),
        "empty": ("config", {"httpd.conf": ""}),
        "no config": ("config", {}),
        "pair": ("tls", {"tls.crt": (folder / "other.crt").read_bytes(), "tls.key": (folder / "ca.key").read_bytes()}),
        "no key": ("tls", {"tls.crt": (folder / "other.crt").read_bytes()}),
        "no certificate": ("trust", {"ca.crt": "nothing"}),
        "no secrets": ("secrets", {"secrets.conf": ""}),
        "odd secrets": ("secrets", {"secrets.conf": f"{secret}\nOIDCCryptoPassphrase x\nOIDCRedisCacheUsername d\n"
                                                    "OIDCRedisCachePassword p q r s3cr3t-that\n"}),
    }  # fmt: skip


@pytest.mark.parametrize(
    "what",
    ["syntax", "cut off", "empty", "no config", "pair", "no key", "no certificate", "no secrets", "odd secrets"],
)
def test_what_is_broken_is_told_and_the_old_keeps_serving(site: Site, what: str) -> None:
    volume, files = _broken(site)[what]
    folder = site.door.folder / "mounts" / volume
    good = {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith("..")}
    told, reloaded = len(site.door.events("refused")), len(site.door.events("reloaded"))
    site.door.volumes[volume].put(files)
    until("the refusal", lambda: len(site.door.events("refused")) > told)
    message = site.door.events("refused")[-1]["message"]
    assert message.startswith("The old config keeps serving: ")
    assert len(message) > 50
    assert "s3cr3t" not in site.door.err
    assert len(site.door.events("reloaded")) == reloaded
    assert site.web.get("/a/open/x").status_code == 200
    # Back to what serves already: nothing to do but to say that all is well.
    restored = len(site.door.events("restored"))
    site.door.volumes[volume].put(good)
    until("all is well", lambda: len(site.door.events("restored")) > restored)
    assert len(site.door.events("reloaded")) == reloaded
    assert site.web.get("/a/open/x").status_code == 200


def test_after_a_refusal_what_can_be_served_is_taken(site: Site) -> None:
    told = len(site.door.events("refused"))
    site.door.volumes["config"].put({"httpd.conf": "Nonsense here\n"})
    until("the refusal", lambda: len(site.door.events("refused")) > told)
    site.configure(hsts_seconds=12345)
    assert site.web.get("/a/open/x").headers["strict-transport-security"] == "max-age=12345"


def test_nothing_is_written_but_to_the_scratch_volume_and_nobody_is_root(site: Site) -> None:
    supervisor, *others = family(site.door.process.pid)
    assert others
    for pid in (supervisor, *others):
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        assert status["Uid"].split() == ["65532"] * 4
        assert int(status["CapEff"], 16) == 0
    root = Path(f"/proc/{supervisor}/root")
    for place in ("", "etc", "var/tmp", "run", "usr/local"):
        with pytest.raises(OSError, match="Read-only file system"):
            (root / place / "written").touch()
    assert {p.name for p in (root / "tmp").iterdir()} == {"door"}


def test_old_generations_do_not_pile_up(site: Site) -> None:
    for number in range(6):
        site.configure(hsts_seconds=100 + number)
    scratch = Path(f"/proc/{site.door.process.pid}/root/tmp/door")
    kept = [p for p in scratch.iterdir() if p.is_dir() and not p.is_symlink()]
    assert len(kept) <= 4
    assert {oct(p.stat().st_mode & 0o77) for p in kept} == {"0o0"}


def test_it_drains_when_it_is_told_to_end(tmp_path: Path) -> None:
    with without_login(tmp_path, limits=MANY, drain=2) as site:
        site.assistant.go_on.clear()
        with site.web.stream("GET", "/a/open/stream") as streamed:
            pieces = streamed.iter_raw()
            assert next(pieces) == b"first"
            site.door.process.send_signal(signal.SIGTERM)
            until("draining", lambda: bool(site.door.events("draining")))
            # Until everybody has heard of it, new requests still come.
            assert httpx.get(site.door.url + "/a/open/x", verify=False).status_code == 200

            def closed() -> bool:
                with socket.socket() as s:
                    return s.connect_ex(("127.0.0.1", site.door.door.https_port)) != 0

            until("no new requests", closed)
            site.assistant.go_on.set()
            assert next(pieces) == b"last"
        assert site.door.process.wait(30) == 0
        assert site.door.events("ended")[-1]["code"] == 0


def test_it_ends_with_its_web_server(tmp_path: Path) -> None:
    with without_login(tmp_path) as site:
        _, httpd, *workers = family(site.door.process.pid)
        os.kill(httpd, signal.SIGKILL)
        assert site.door.process.wait(10) == 128 + signal.SIGKILL
        # In a pod they end with their container.
        for pid in workers:
            os.kill(pid, signal.SIGKILL)


def test_it_does_not_start_with_what_is_broken(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.mkdir()
    process = contained(
        "frontdoor", mounts, "/etc/domicile/door", ("python3", "-P", "-m", "domicile.gateway.door"), tmp_path / "log"
    )
    assert process.wait(30) == 1
    said = (tmp_path / "log.err").read_text()
    assert "Nothing is served: /etc/domicile/door/config/httpd.conf can't be read" in said


def test_new_secrets_are_taken(site: Site) -> None:
    before = len(site.door.events("reloaded"))
    site.door.volumes["secrets"].put({"secrets.conf": render_secrets(Secrets("d" * 32, "q" * 32, "doors", "r" * 32))})
    until("the reload", lambda: len(site.door.events("reloaded")) == before + 1)
    assert site.web.get("/a/open/x").status_code == 200
