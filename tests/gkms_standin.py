"""A stand-in for Google Cloud KMS in one region: symmetric encrypt and decrypt, with real AES-256-GCM and real tokens.

Written from the public REST reference of v1 (projects.locations.keyRings.cryptoKeys.encrypt and .decrypt), and for
callers from Google's "service account authorization without OAuth" (tokens that an account's own key has signed).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import google.auth.jwt
import google_crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

USE_TO_ENCRYPT = "cloudkms.cryptoKeyVersions.useToEncrypt"
USE_TO_DECRYPT = "cloudkms.cryptoKeyVersions.useToDecrypt"
_SCOPES = {"https://www.googleapis.com/auth/cloudkms", "https://www.googleapis.com/auth/cloud-platform"}
_PATH = re.compile(r"/v1/(projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/:]+):(encrypt|decrypt)")
_MAX_BYTES = 64 * 1024
_HTTP = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403}
_HTTP |= {"NOT_FOUND": 404, "UNAVAILABLE": 503}


class RefusedError(Exception):
    """An answer with an error in Google's format."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Version:
    """One version of a key."""

    material: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    enabled: bool = True


@dataclass
class CloudKms:
    """What a region's KMS knows. ``tokens``: opaque ones and whose; ``tamper`` may change an answer (status, body)."""

    region: str
    keys: dict[str, list[Version]] = field(default_factory=dict)
    accounts: dict[str, bytes] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    granted: set[tuple[str, str, str]] = field(default_factory=set)
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    seen_aad: list[bytes] = field(default_factory=list)
    tamper: Callable[[int, dict[str, Any]], tuple[int, dict[str, Any]]] = lambda status, body: (status, body)

    def create_key(self, name: str) -> str:
        """A key with one version; returns its resource name."""
        resource = f"projects/p/locations/{self.region}/keyRings/r/cryptoKeys/{name}"
        self.keys[resource] = [Version()]
        return resource

    def rotate(self, resource: str) -> None:
        """A further version, which is the primary one from now on."""
        self.keys[resource].append(Version())

    def create_account(self, name: str) -> dict[str, str]:
        """A service account; returns its key as Google's console would hand it out."""
        email = f"{name}@p.iam.gserviceaccount.com"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.accounts[email] = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        return {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": secrets.token_hex(20),
            "private_key": private.decode(),
            "client_email": email,
            "token_uri": "https://oauth2.googleapis.com/token",
        }

    def grant(self, account: dict[str, str], resource: str, *permissions: str) -> None:
        """Let an account use a key."""
        self.granted |= {(account["client_email"], resource, p) for p in permissions}

    def answer(self, path: str, authorization: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """HTTP status and JSON of one POST."""
        try:
            status, answered = 200, self._answer(path, authorization, body)
        except RefusedError as error:
            status = _HTTP[error.status]
            answered = {"error": {"code": status, "message": str(error), "status": error.status}}
        return self.tamper(status, answered)

    def _answer(self, path: str, authorization: str, body: bytes) -> dict[str, Any]:
        match = _PATH.fullmatch(path)
        if match is None:
            raise RefusedError("NOT_FOUND", "no such method")
        resource, location, operation = match.groups()
        caller = self._caller(authorization)
        self.calls.append((caller, operation, resource))
        if location != self.region:
            raise RefusedError("INVALID_ARGUMENT", f"this endpoint serves {self.region} only")
        permission = USE_TO_ENCRYPT if operation == "encrypt" else USE_TO_DECRYPT
        if (caller, resource, permission) not in self.granted:
            raise RefusedError("PERMISSION_DENIED", f"Permission '{permission}' denied (or it may not exist)")
        if resource not in self.keys:
            raise RefusedError("NOT_FOUND", "CryptoKey not found")
        request = json.loads(body)
        aad = _checked(request, "additionalAuthenticatedData")
        self.seen_aad.append(aad)
        if operation == "encrypt":
            return self._encrypt(resource, request, _checked(request, "plaintext"), aad)
        return self._decrypt(resource, _checked(request, "ciphertext"), aad)

    def _caller(self, authorization: str) -> str:
        token = authorization.removeprefix("Bearer ")
        if token in self.tokens:
            return self.tokens[token]
        try:
            email = str(google.auth.jwt.decode(token, verify=False)["iss"])
            claims = google.auth.jwt.decode(token, certs=self.accounts[email])
        except (ValueError, KeyError) as error:
            raise RefusedError("UNAUTHENTICATED", f"no valid token: {error}") from None
        if claims["sub"] != email or claims["exp"] - time.time() > 3700 or not _SCOPES & set(claims["scope"].split()):
            raise RefusedError("UNAUTHENTICATED", "the token's subject, expiry or scope won't do")
        return email

    def _encrypt(self, resource: str, request: dict[str, Any], plaintext: bytes, aad: bytes) -> dict[str, Any]:
        versions = self.keys[resource]
        if not versions[-1].enabled:
            raise RefusedError("FAILED_PRECONDITION", f"{resource}/cryptoKeyVersions/{len(versions)} is not enabled")
        nonce = secrets.token_bytes(12)
        ciphertext = (
            len(versions).to_bytes(4, "big") + nonce + AESGCM(versions[-1].material).encrypt(nonce, plaintext, aad)
        )
        return {
            "name": f"{resource}/cryptoKeyVersions/{len(versions)}",
            "ciphertext": base64.b64encode(ciphertext).decode(),
            "ciphertextCrc32c": str(google_crc32c.value(ciphertext)),
            "verifiedPlaintextCrc32c": "plaintextCrc32c" in request,
            "verifiedAdditionalAuthenticatedDataCrc32c": "additionalAuthenticatedDataCrc32c" in request,
            "protectionLevel": "SOFTWARE",
        }

    def _decrypt(self, resource: str, ciphertext: bytes, aad: bytes) -> dict[str, Any]:
        number = int.from_bytes(ciphertext[:4], "big")
        if not 1 <= number <= len(self.keys[resource]) or len(ciphertext) < 32:
            raise RefusedError("INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.")
        version = self.keys[resource][number - 1]
        if not version.enabled:
            raise RefusedError("FAILED_PRECONDITION", f"{resource}/cryptoKeyVersions/{number} is not enabled")
        try:
            plaintext = AESGCM(version.material).decrypt(ciphertext[4:16], ciphertext[16:], aad)
        except InvalidTag:
            raise RefusedError("INVALID_ARGUMENT", "Decryption failed: verify that the name is right.") from None
        return {
            "plaintext": base64.b64encode(plaintext).decode(),
            "plaintextCrc32c": str(google_crc32c.value(plaintext)),
            "usedPrimary": number == len(self.keys[resource]),
            "protectionLevel": "SOFTWARE",
        }


def _checked(request: dict[str, Any], name: str) -> bytes:
    try:
        data = base64.b64decode(request.get(name, ""), validate=True)
    except (binascii.Error, TypeError):
        raise RefusedError("INVALID_ARGUMENT", f"{name} is not base64") from None
    if len(data) > _MAX_BYTES:
        raise RefusedError("INVALID_ARGUMENT", f"{name} is larger than 64 KiB")
    if f"{name}Crc32c" in request and int(request[f"{name}Crc32c"]) != google_crc32c.value(data):
        raise RefusedError("INVALID_ARGUMENT", f"the checksum in field {name}_crc32c did not match the data")
    return data


class Answering(Protocol):
    """A stand-in that answers POST requests."""

    def answer(self, path: str, authorization: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """HTTP status and JSON."""


class Server:
    """A stand-in behind HTTPS on a port of 127.0.0.1; a context manager."""

    def __init__(self, kms: Answering, certificate: Path, key: Path) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = kms.answer(self.path, self.headers.get("Authorization", ""), body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                if status in {301, 302, 307, 308}:
                    self.send_header("Location", str(answer["location"]))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
