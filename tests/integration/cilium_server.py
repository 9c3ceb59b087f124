"""Cilium's kinds in a cluster, without Cilium: the API server holds what is applied against the real schema."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.integration.apiserver import ApiServer
from tests.testbed.process import eventually

CILIUM = "github.com/cilium/cilium@v1.16.5"
_SUM = "h1:ecjhh98fl6Ki641+8Cdb0oynsy3toQ+oPLCSI3d+KLE="
CRD = "ciliumnetworkpolicies.cilium.io"


@cache
def crd() -> Path:
    """The CRD of CiliumNetworkPolicy."""
    found = subprocess.run(
        ["go", "mod", "download", "-json", CILIUM],
        env={**os.environ, "GOWORK": "off"},
        check=True,
        capture_output=True,
    )
    module = json.loads(found.stdout)
    assert module["Sum"] == _SUM, "that is another module than the one that was looked at"
    return Path(module["Dir"]) / "pkg/k8s/apis/cilium.io/client/crds/v2/ciliumnetworkpolicies.yaml"


def _asked(apiserver: ApiServer) -> int:
    return apiserver.kubectl("get", CRD, "-A", check=False).returncode


@contextmanager
def cilium_kinds(apiserver: ApiServer) -> Iterator[None]:
    """The cluster knows the kind; afterwards it doesn't."""
    apiserver.kubectl("apply", "--server-side", "-f", str(crd()))
    eventually(lambda: not _asked(apiserver), "answer about Cilium's policies", 30)
    try:
        yield
    finally:
        apiserver.kubectl("delete", "crd", CRD)
        eventually(lambda: bool(_asked(apiserver)), "end of Cilium's policies", 30)
