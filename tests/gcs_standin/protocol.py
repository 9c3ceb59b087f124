"""What every operation of the stand-in shares: how it is found, what it is asked, and that nothing is ignored.

Source: Cloud Storage JSON API v1 reference (paths, methods, parameters), XML API reference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_to_bytes

from multidict import CIMultiDictProxy

from tests.gcs_standin import partial
from tests.gcs_standin.refusal import Answer, RefusedError

if TYPE_CHECKING:
    from tests.gcs_standin.bucket import Bucket
    from tests.gcs_standin.state import State

# Parameters that the API knows and the stand-in does not: refused, for to ignore one would be to lie.
_NAMES_NOT_HERE = """key quotaUser userIp userProject predefinedAcl predefinedDefaultObjectAcl enableObjectRetention
    matchGlob filter includeFoldersAsPrefixes restoreToken copySourceAcl optionsRequestedPolicyVersion
    overrideUnlockedRetention returnPartialSuccess uploads partNumber uploadId list-type acl cors lifecycle location
    versioning"""
_NOT_HERE = frozenset(_NAMES_NOT_HERE.split())
# Operations of the API that the stand-in lacks.
_NO_OPERATION = (
    r"/batch/|/storage/v1/projects/|/storage/v1/b/[^/]+/(acl|defaultObjectAcl|anywhereCaches|folders|managedFolders"
    r"|lockRetentionPolicy|restore|operations/[^/]+|channels)(/|$)"
    r"|/storage/v1/b/[^/]+/o/(bulkRestore|watch)$|/storage/v1/b/[^/]+/o/[^/]+/(acl|compose|copyTo|rewriteTo|moveTo|iam)(/|$)"
)
_COMMON = frozenset({"alt", "fields", "prettyPrint"})
_HEADERS = {
    "x-goog-api-client",
    "x-goog-hash",
    "x-goog-if-generation-match",
    "x-goog-if-metageneration-match",
    "x-goog-gcs-idempotency-token",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of the API: what it is called, where it is, what it needs and takes."""

    name: str
    method: str
    path: re.Pattern[str]
    permission: str | None
    parameters: frozenset[str]
    handler: Callable[[Call], Answer]
    xml: bool


OPERATIONS: list[Operation] = []


def operation(
    name: str, method: str, path: str, permission: str | None, *parameters: str
) -> Callable[[Callable[[Call], Answer]], Callable[[Call], Answer]]:
    """Register a handler; ``{bucket}``, ``{object}`` and ``{id}`` are one raw path segment, ``{key}`` is the rest."""
    pattern = re.sub(r"\{(\w+)\}", lambda found: f"(?P<{found[1]}>{'.+' if found[1] == 'key' else '[^/]+'})", path)

    def register(handler: Callable[[Call], Answer]) -> Callable[[Call], Answer]:
        OPERATIONS.append(
            Operation(
                name,
                method,
                re.compile(pattern, re.DOTALL),
                permission,
                frozenset(parameters),
                handler,
                path.startswith("/{"),
            )
        )
        return handler

    return register


@dataclass(frozen=True, slots=True)
class Call:
    """One request, decoded and known to hold nothing that its operation does not understand."""

    state: State
    operation: Operation
    names: Mapping[str, str]
    query: Mapping[str, str]
    headers: CIMultiDictProxy[str]
    body: bytes
    caller: str | None

    @property
    def base(self) -> str:
        """URL under which the client knows the server: its own scheme, and the host that the client names."""
        return f"{self.state.url.partition(':')[0]}://{self.headers['Host']}"

    @property
    def bucket(self) -> Bucket:
        """The bucket that the path names. Raises RefusedError (404)."""
        return self.state.bucket(self.names["bucket"])

    @property
    def object_name(self) -> str:
        """The object that the path names."""
        return self.names["key"] if self.operation.xml else self.names["object"]

    def require(self, permission: str, what: str = "bucket") -> None:
        """Raise RefusedError (401, 403) unless the caller has the permission on the call's bucket."""
        self.state.accounts.require(self.caller, self.names.get("bucket", "*"), permission, what)

    def integer(self, name: str) -> int | None:
        """A whole number of the query. Raises RefusedError (400)."""
        value = self.query.get(name)
        if value is None:
            return None
        if not re.fullmatch(r"\d{1,19}", value):
            raise RefusedError(400, "invalidParameter", f"Invalid value for parameter {name}: {value!r}")
        return int(value)

    def flag(self, name: str) -> bool:
        """A boolean of the query. Raises RefusedError (400)."""
        value = self.query.get(name, "false").lower()
        if value not in {"true", "false"}:
            raise RefusedError(400, "invalidParameter", f"Invalid value for parameter {name}: {value!r}")
        return value == "true"

    def document(self) -> dict[str, Any]:
        """The body as a JSON object. Raises RefusedError (400)."""
        return parse_object(self.body)

    def selected(self, name: str) -> Collection[str] | None:
        """What ``fields`` selects of the entries of a list, so that nothing else need be made; None: everything."""
        tree = partial.selection(self.query["fields"]).get(name) if "fields" in self.query else None
        return tree if tree and "*" not in tree else None

    def json(self, resource: Mapping[str, Any], schema: Mapping[str, Any] | None = None) -> Answer:
        """The resource, cut down to what ``fields`` selects."""
        selected: Any = resource
        if "fields" in self.query:
            selection = partial.selection(self.query["fields"])
            if schema is not None:
                partial.check(selection, schema)
            selected = partial.select(selection, resource)
        body = json.dumps(selected, ensure_ascii=False, separators=(",", ":")).encode()
        return Answer(200, body, {"Content-Type": "application/json; charset=UTF-8"})


def parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object. Raises RefusedError (400)."""
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        raise RefusedError(400, "parseError", "Parse Error") from None
    if not isinstance(found, dict):
        raise RefusedError(400, "parseError", "Parse Error: a JSON object is needed")
    return found


def is_json(raw: str) -> bool:
    """Whether a request target is of the JSON API (or OAuth); everything else is of the XML API."""
    return bool(re.match(r"/(storage|upload|download|batch|resumable|token)([/?]|$)", raw))


def target(method: str, raw: str) -> tuple[Operation, dict[str, str], dict[str, str]]:
    """Operation, decoded names and checked query of a request target. Raises RefusedError (400, 404, 405, 501)."""
    path, _, query = raw.partition("?")
    json_path = is_json(raw)
    there = (entry for entry in OPERATIONS if entry.xml is not json_path)
    chosen = next(
        ((entry, found) for entry in there if entry.method == method and (found := entry.path.fullmatch(path))), None
    )
    if chosen is None:
        if any(entry.xml is not json_path and entry.path.fullmatch(path) for entry in OPERATIONS):
            raise RefusedError(405, "methodNotAllowed", f"The stand-in has no {method} here")
        if not json_path or re.match(_NO_OPERATION, path):
            raise RefusedError(501, "notImplemented", f"The stand-in has no such {method} operation")
        raise RefusedError(404, "notFound", "Not Found")
    entry, found = chosen
    names = {key: _decoded(value) for key, value in found.groupdict().items()}
    return entry, names, _query(entry, query)


def _decoded(raw: str) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise RefusedError(400, "invalid", "A name in the path is not UTF-8") from None


def _query(entry: Operation, raw: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict")
    except ValueError:
        raise RefusedError(400, "invalidParameter", "The query is not UTF-8") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        if name in entry.parameters or (name in _COMMON and not entry.xml):
            # Only testPermissions takes a parameter several times.
            if name in query and name != "permissions":
                raise RefusedError(400, "invalidParameter", f"Parameter {name} is given twice")
            query[name] = f"{query[name]},{value}" if name in query else value
        elif name in _NOT_HERE:
            raise RefusedError(501, "notImplemented", f"The stand-in does not know parameter {name} of {entry.name}")
        else:
            raise RefusedError(400, "invalidParameter", f"{entry.name} has no parameter {name}")
    if query.get("alt", "json") not in {"json", "media"} or query.get("projection", "noAcl") != "noAcl":
        raise RefusedError(501, "notImplemented", "The stand-in knows alt json and media, and projection noAcl")
    return query


def check_headers(headers: CIMultiDictProxy[str]) -> None:
    """Raise RefusedError (501) for a header of Google's that the stand-in would have to ignore."""
    for name in headers:
        lowered = name.lower()
        if lowered.startswith("x-goog-") and lowered not in _HEADERS and not lowered.startswith("x-goog-meta-"):
            raise RefusedError(501, "notImplemented", f"The stand-in does not know header {lowered}")
