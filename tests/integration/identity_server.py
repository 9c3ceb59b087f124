"""A real Keycloak on localhost, and a person with a browser who logs in there."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html.parser
import json
import os
import secrets
import signal
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx

from images.keycloak import home
from tests.integration.apiserver import Authority, free_port
from tests.testbed import keycloak
from tests.testbed.keycloak import BOOTSTRAP, KeycloakServer, admit_operator

_START_SECONDS = 180


@contextmanager
def running(
    folder: Path, public: str | None = None, *more: str, console: str | None = None, host: str | None = None
) -> Iterator[KeycloakServer]:
    """A Keycloak with an empty database, and the operator's account in its realm master.

    ``public``: what browsers see, where something stands before it, and ``console`` its administrators; ``more``
    options of Keycloak. ``host``: a name that it has, at every address of this network.
    """
    home()
    Authority(folder).issue("server", "localhost", hosts=(host,) if host else ())
    port, management = free_port(), free_port()
    public = f"https://{host}:{port}" if host else public
    server = KeycloakServer(port, folder / "ca.crt", secrets.token_hex(16), folder / "keycloak.log", console=console)
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            keycloak.command("0.0.0.0" if host else server.address, port, management, folder, public, *more),
            cwd=folder,
            env=keycloak.environment(BOOTSTRAP, server.admin_secret),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await(process, server)
        admit_operator(server)
        yield server
    finally:
        # Its start script leaves the server behind that it has started.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(process: subprocess.Popen[bytes], server: KeycloakServer) -> None:
    until = time.monotonic() + _START_SECONDS
    while not server.answers():
        if process.poll() is not None:
            raise RuntimeError(f"keycloak ended:\n{server.log.read_text()[-3000:]}")
        if time.monotonic() > until:
            raise TimeoutError(f"keycloak is not ready after {_START_SECONDS} s:\n{server.log.read_text()[-3000:]}")
        time.sleep(0.3)


@dataclass
class Form:
    """One form of a page."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        self.secret: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        a = {k: v or "" for k, v in attrs}
        if tag == "form":
            self.forms.append(Form(a.get("action", "")))
        elif tag == "input" and self.forms and a.get("name"):
            self.forms[-1].fields[a["name"]] = a.get("value", "")
        elif tag == "a" and a.get("id"):
            self.links[a["id"]] = a.get("href", "")


def totp(secret: bytes, moment: float | None = None) -> str:
    """The six digits of RFC 6238 (HMAC-SHA-1, 30 s)."""
    counter = struct.pack(">Q", int((time.time() if moment is None else moment) // 30))
    digest = hmac.new(secret, counter, hashlib.sha1).digest()
    at = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[at : at + 4])[0] & 0x7FFFFFFF) % 10**6:06d}"


class DeniedError(AssertionError):
    """The person did not get in; the text is what the page said."""


class Person:
    """A person with a browser of their own, who enrols a one-time password when asked to, and then uses it."""

    def __init__(self, server: KeycloakServer, name: str, password: str) -> None:
        self.name, self.password = name, password
        self.otp: bytes | None = None
        self.asked: list[str] = []
        self.on_its_way: Callable[[dict[str, str]], dict[str, str]] = lambda fields: fields
        self._used: set[str] = set()
        self._server = server
        # A connection that is kept may end just when it is used again: a door that reloads ends those that are idle.
        fresh = httpx.Limits(max_keepalive_connections=0)
        trusted = ssl.create_default_context(cafile=str(server.authority))
        self.web = httpx.Client(verify=trusted, follow_redirects=False, timeout=30, limits=fresh)

    def elsewhere(self, name: str | None = None) -> Person:
        """The same person, who has the same one-time passwords, at another browser; by another ``name``, if given."""
        other = Person(self._server, name or self.name, self.password)
        other.otp, other._used = self.otp, self._used
        return other

    def log_in(self, realm: str, client: Client, provider: str | None = None, **parameters: str) -> dict[str, Any]:
        """Go through the pages of a login; the claims of the ID token. Raises DeniedError."""
        return _claims(self.id_token(realm, client, provider, **parameters))

    def id_token(self, realm: str, client: Client, provider: str | None = None, **parameters: str) -> str:
        """Go through the pages of a login; the ID token as the server signed it. Raises DeniedError."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": client.name,
            "redirect_uri": client.redirect,
            "response_type": "code",
            "scope": "openid",
            "state": "s",
            "nonce": "n",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "acr_values": "mfa",
            **parameters,
        }
        base = f"{self._server.url}/realms/{realm}/protocol/openid-connect"
        self._awaited = (base, client, verifier)
        return self._go_on(f"{base}/auth?{urlencode({k: v for k, v in query.items() if v})}", provider)

    def follow(self, link: str) -> dict[str, Any]:
        """Open the link of a mail at the browser whose login waits for it; the claims. Raises DeniedError."""
        return _claims(self._go_on(link, None))

    def _go_on(self, url: str, provider: str | None) -> str:
        base, client, verifier = self._awaited
        page = self.web.get(url)
        for _ in range(25):
            if page.is_redirect:
                target = urljoin(str(page.url), page.headers["location"])
                if target.startswith(client.redirect):
                    return self._exchange(base, client, target, verifier)
                page = self.web.get(target)
                continue
            page = self._answer(page, provider)
        raise DeniedError("the pages go round in a circle")

    def _answer(self, page: httpx.Response, provider: str | None) -> httpx.Response:
        parsed = _Page()
        parsed.feed(page.text)
        if provider and (link := parsed.links.get(f"social-{provider}")):
            self.asked.append(f"provider {provider}")
            return self.web.get(urljoin(str(page.url), link))
        if "kc-page-title" in page.text and page.status_code >= 400:
            raise DeniedError(_text(page))
        form = next((f for f in parsed.forms if f.action), None)
        if form is None:
            raise DeniedError(_text(page))
        values = dict(form.fields)
        if values.keys() & {"SAMLRequest", "SAMLResponse"}:
            # A browser sends these on by itself; ``on_its_way`` is what somebody does to them.
            values = self.on_its_way(values)
        elif "totpSecret" in values:
            self.asked.append("enrolment")
            self.otp = values["totpSecret"].encode()
            values |= {"totp": self._code(), "userLabel": "phone"}
        elif "otp" in values:
            self.asked.append("otp")
            if self.otp is None:
                raise DeniedError("a one-time password is wanted, and the person has none")
            values["otp"] = self._code()
        elif "password" in values:
            if "password" in self.asked[-1:]:
                raise DeniedError(_text(page))
            self.asked.append("password")
            values |= {"username": self.name, "password": self.password}
        else:
            raise DeniedError(_text(page))
        return self.web.post(urljoin(str(page.url), form.action), data=values)

    def _code(self) -> str:
        # A code counts once, and the next one is accepted half a minute early.
        assert self.otp is not None
        now = time.time()
        code = next((c for m in (now, now + 30, now - 30) if (c := totp(self.otp, m)) not in self._used), None)
        if code is None:
            raise DeniedError("no fresh one-time password")
        self._used.add(code)
        return code

    def _exchange(self, base: str, client: Client, target: str, verifier: str) -> str:
        answer = parse_qs(urlsplit(target).query)
        if "code" not in answer:
            raise DeniedError(f"{answer.get('error')}: {answer.get('error_description')}")
        tokens = self.web.post(
            f"{base}/token",
            data={
                "grant_type": "authorization_code",
                "code": answer["code"][0],
                "redirect_uri": client.redirect,
                "code_verifier": verifier,
            },
            auth=(client.name, client.secret),
        )
        if tokens.status_code != 200:
            raise DeniedError(tokens.text)
        return str(tokens.json()["id_token"])


@dataclass(frozen=True)
class Client:
    """A relying party."""

    name: str
    secret: str
    redirect: str


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def _text(page: httpx.Response) -> str:
    found: list[str] = []

    class Words(html.parser.HTMLParser):
        def handle_data(self, data: str) -> None:
            if data.strip():
                found.append(data.strip())

    Words().feed(page.text.partition("<body")[2] or page.text)
    return f"{page.status_code} {' '.join(found)[:400]}"
