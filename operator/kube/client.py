"""A thin asynchronous client of the Kubernetes API: plain objects, our own errors, one deadline for each request.

Connection, TLS and credentials are kubernetes.aio's. Objects are dictionaries as the API server sends them.
Source: Kubernetes API concepts, https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client as aio_client
from kubernetes.aio import config as aio_config

from domicile.api.common import API_VERSION, FIELD_MANAGER

Object = dict[str, Any]
Objects = list[Object]

USER_AGENT: Final = "domicile-operator"
JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
_PAGE: Final = 500
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class KubeError(Exception):
    """The API server refused a request or gave no answer; the message names method, path, status and its words."""


class NotFoundError(KubeError):
    """404: no such object, or no such kind in this cluster."""


class ConflictError(KubeError):
    """409: the object has changed since it was read, or exists already. Read it again and retry."""


class GoneError(KubeError):
    """410: a list continuation or resource version has expired. List again from the start."""


class InvalidError(KubeError):
    """400 or 422: the object breaks its schema, an immutable field or a validation rule."""


class ForbiddenError(KubeError):
    """401 or 403: credentials or role lack the permission."""


class UnavailableError(KubeError):
    """No answer within the deadline, 429 or 5xx: the outcome of a write is unknown."""


_ERRORS: Final[dict[int, type[KubeError]]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: UnavailableError,
}


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind lives in the API."""

    plural: str
    namespaced: bool = True


# What the operator touches. A fixed table instead of discovery: no start-up requests, and no surprise of a new version.
RESOURCES: Final[dict[tuple[str, str], Resource]] = {
    ("v1", "Namespace"): Resource("namespaces", namespaced=False),
    ("v1", "Node"): Resource("nodes", namespaced=False),
    ("v1", "Pod"): Resource("pods"),
    ("v1", "Secret"): Resource("secrets"),
    ("v1", "Service"): Resource("services"),
    ("v1", "ServiceAccount"): Resource("serviceaccounts"),
    ("v1", "ConfigMap"): Resource("configmaps"),
    ("v1", "PersistentVolumeClaim"): Resource("persistentvolumeclaims"),
    ("apps/v1", "Deployment"): Resource("deployments"),
    ("batch/v1", "Job"): Resource("jobs"),
    ("batch/v1", "CronJob"): Resource("cronjobs"),
    ("policy/v1", "PodDisruptionBudget"): Resource("poddisruptionbudgets"),
    ("networking.k8s.io/v1", "NetworkPolicy"): Resource("networkpolicies"),
    ("coordination.k8s.io/v1", "Lease"): Resource("leases"),
    ("events.k8s.io/v1", "Event"): Resource("events"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): Resource("customresourcedefinitions", namespaced=False),
    # Not in every cluster: a read finds nothing then, and a list raises NotFoundError.
    ("cert-manager.io/v1", "Certificate"): Resource("certificates"),
    ("cilium.io/v2", "CiliumNetworkPolicy"): Resource("ciliumnetworkpolicies"),
    (API_VERSION, "AssistantTenant"): Resource("assistanttenants", namespaced=False),
    (API_VERSION, "Failover"): Resource("failovers", namespaced=False),
    (API_VERSION, "ResidencyZone"): Resource("residencyzones", namespaced=False),
    (API_VERSION, "Restore"): Resource("restores", namespaced=False),
}


def path_of(api_version: str, kind: str, name: str = "", namespace: str = "", subresource: str = "") -> str:
    """URL path of an object, or of its collection where ``name`` is empty. KeyError for a kind not in RESOURCES."""
    resource = RESOURCES[api_version, kind]
    parts = ["apis" if "/" in api_version else "api", api_version]
    if resource.namespaced and namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(resource.plural)
    if name:
        if resource.namespaced and not namespace:
            raise ValueError(f"{kind} {name}: a namespaced object needs its namespace")
        parts.append(quote(name, safe=""))
    return "/" + "/".join([*parts, subresource] if subresource else parts)


def object_path(obj: Object, subresource: str = "") -> str:
    """URL path of an object, from its own apiVersion, kind and metadata."""
    meta = obj["metadata"]
    return path_of(obj["apiVersion"], obj["kind"], meta["name"], meta.get("namespace", ""), subresource)


class Kube:
    """Requests to one cluster. Every method raises KubeError's kinds, never a library's own errors."""

    def __init__(self, api: aio_client.ApiClient, *, timeout: float = 30.0) -> None:
        """``timeout`` is the deadline of one request in seconds."""
        self._api = api
        self._timeout = timeout
        self.on_write: Callable[[str, str, int], None] = lambda *_: None
        """Told of every request that is no GET: method, plural name of the resource, HTTP status (0: no answer)."""

    @classmethod
    async def connect(cls, *, user_agent: str = USER_AGENT, timeout: float = 30.0) -> Kube:  # noqa: ASYNC109
        """Connect by $KUBECONFIG where set, else as the pod's service account, else by ~/.kube/config."""
        configuration = aio_client.Configuration()
        kubeconfig = os.environ.get("KUBECONFIG")
        if kubeconfig or not _in_cluster():
            await aio_config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            aio_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        api = aio_client.ApiClient(configuration)
        api.user_agent = user_agent
        return cls(api, timeout=timeout)

    @property
    def user_agent(self) -> str:
        """The user agent that audit logs show."""
        return str(self._api.user_agent)

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = JSON,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Object:
        """One request; returns the parsed answer. ``timeout`` in seconds replaces the client's own deadline."""
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": self._api.user_agent}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{self._api.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        deadline = aiohttp.ClientTimeout(total=timeout or self._timeout)
        try:
            response = await self._api.rest_client.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=deadline
            )
            data = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._wrote(method, path, 0)
            raise UnavailableError(f"{method} {path}: no answer ({type(error).__name__})") from error
        self._wrote(method, path, response.status)
        return _parse(method, path, response.status, data)

    def _wrote(self, method: str, path: str, status: int) -> None:
        if method != "GET":
            self.on_write(method, _plural(path), status)

    async def read(self, api_version: str, kind: str, name: str, namespace: str = "") -> Object | None:
        """The object, or None where there is none."""
        try:
            return await self.request("GET", path_of(api_version, kind, name, namespace))
        except NotFoundError:
            return None

    async def list(self, api_version: str, kind: str, namespace: str = "", *, labels: str = "") -> Objects:
        """All objects of a kind, in one namespace or all, by label selector. Read in pages of 500."""
        while True:
            try:
                return await self._list(api_version, kind, namespace, labels)
            except GoneError:
                continue

    async def list_if_known(
        self, api_version: str, kind: str, namespace: str = "", *, labels: str = ""
    ) -> Objects | None:
        """As ``list``; None where the cluster doesn't know the kind."""
        try:
            return await self.list(api_version, kind, namespace, labels=labels)
        except NotFoundError:
            return None

    async def _list(self, api_version: str, kind: str, namespace: str, labels: str) -> Objects:
        found: Objects = []
        query = {"limit": str(_PAGE), **({"labelSelector": labels} if labels else {})}
        while True:
            page = await self.request("GET", path_of(api_version, kind, namespace=namespace), query=query)
            found += [{"apiVersion": api_version, "kind": kind, **item} for item in page.get("items", [])]
            token = page.get("metadata", {}).get("continue")
            if not token:
                return found
            query["continue"] = token

    async def create(self, obj: Object) -> Object:
        """Create an object. Raises ConflictError where one of its name exists."""
        meta = obj["metadata"]
        path = path_of(obj["apiVersion"], obj["kind"], namespace=meta.get("namespace", ""))
        return await self.request("POST", path, obj, query={"fieldManager": FIELD_MANAGER})

    async def delete(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        propagation: str = "Background",
    ) -> None:
        """Delete an object and, in the background, what it owns; a missing one is no error.

        With ``uid`` only that very object: raises ConflictError where another one has taken its name.
        """
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", path_of(api_version, kind, name, namespace), body)
        except NotFoundError:
            return


def _plural(path: str) -> str:
    parts = path.split("/")[3 if path.startswith("/api/") else 4 :]
    return parts[2] if parts[0] == "namespaces" and len(parts) > 2 else parts[0]


def _in_cluster() -> bool:
    return _SERVICE_ACCOUNT.exists()


def _parse(method: str, path: str, status: int, data: bytes) -> Object:
    try:
        answer: Object = json.loads(data)
    except ValueError:
        answer = {"message": data[:200].decode(errors="replace")}
    if status < 300:
        return answer
    message = str(answer.get("message", ""))
    kind = _ERRORS.get(status, UnavailableError if status >= 500 else KubeError)
    raise kind(f"{method} {path}: {status} {answer.get('reason', '')}: {message}")
