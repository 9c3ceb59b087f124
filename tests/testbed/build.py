"""Build the testbed's servers and judges from pinned Go modules, once per machine.

Each tool lands in ``<cache>/tools/<name>-<key>/<name>`` where ``key`` digests everything the binary depends on:
the go.mod, go.sum and sources of its tool module (or ``module@version``), its linker flags and the Go version.
The cache is ``$XDG_CACHE_HOME/domicile`` (``~/.cache/domicile``): a fresh clone builds nothing again.

    python -m tests.testbed.build [TOOL ...]     # default: everything that `make test` uses
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TOOLS_DIR = Path(__file__).parent / "tools"
KUBERNETES_VERSION = "v1.34.4"
_VERSION_FLAGS = (
    f"-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
    " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34"
)


@dataclass(frozen=True)
class Tool:
    """One binary: a package of a tool module of ours (``module``) or of a published one (``version`` set).

    What is only ever compared with (``bench``) is built when it is named.
    """

    package: str
    seconds: int
    module: str = ""
    version: str = ""
    ldflags: str = ""
    bench: bool = False


def _kubernetes(package: str, seconds: int) -> Tool:
    return Tool(package, seconds, module="kubernetes", ldflags=_VERSION_FLAGS)


# seconds: a cold build on two cores, only ever printed.
TOOLS = {
    "etcd": _kubernetes("go.etcd.io/etcd/server/v3", 35),
    "kube-apiserver": _kubernetes("k8s.io/kubernetes/cmd/kube-apiserver", 250),
    "kube-controller-manager": _kubernetes("k8s.io/kubernetes/cmd/kube-controller-manager", 50),
    "kube-scheduler": _kubernetes("k8s.io/kubernetes/cmd/kube-scheduler", 30),
    "kubelet": _kubernetes("k8s.io/kubernetes/cmd/kubelet", 40),
    "kube-proxy": _kubernetes("k8s.io/kubernetes/cmd/kube-proxy", 40),
    "kubectl": _kubernetes("k8s.io/kubernetes/cmd/kubectl", 40),
    "coredns": _kubernetes("./coredns", 30),
    "calico-felix": Tool("github.com/projectcalico/calico/felix/cmd/calico-felix", 165, module="calico"),
    "calico": Tool("github.com/projectcalico/calico/cni-plugin/cmd/calico", 5, module="calico"),
    "cert-manager": Tool(".", 320, module="certmanager"),
    "pebble": Tool("github.com/letsencrypt/pebble/v2/cmd/pebble", 20, version="v2.10.1"),
    "versitygw": Tool("github.com/versity/versitygw/cmd/versitygw", 110, version="v1.8.0"),
    "fake-gcs-server": Tool("github.com/fsouza/fake-gcs-server", 110, version="v1.56.1"),
    "helm": Tool("helm.sh/helm/v4/cmd/helm", 210, version="v4.3.1"),
    "kubeconform": Tool("github.com/yannh/kubeconform/cmd/kubeconform", 40, version="v0.8.0"),
    "kube-score": Tool("github.com/zegl/kube-score/cmd/kube-score", 40, version="v1.20.0"),
    "rclone": Tool("github.com/rclone/rclone", 210, version="v1.72.0", bench=True),
}


def cache_dir() -> Path:
    """The user's cache directory of the project."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "domicile"


def _go(args: list[str], cwd: Path | None = None, **env: str) -> str:
    done = subprocess.run(
        ["go", *args],
        cwd=cwd,
        env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"build: go {' '.join(args)} failed in {cwd or Path.cwd()}:\n{done.stderr[-4000:]}")
    return done.stdout


def key(tool: Tool, go_version: str) -> str:
    """Digest of all that the tool's binary depends on, 16 hex digits."""
    digest = hashlib.sha256("|".join((tool.package, tool.version, tool.ldflags, go_version)).encode())
    if tool.module:
        for path in sorted(
            p for p in (TOOLS_DIR / tool.module).rglob("*") if p.suffix in {".go", ".mod", ".sum", ".py"}
        ):
            digest.update(path.relative_to(TOOLS_DIR).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _module_dir(tool: Tool, scratch: Path) -> Path:
    source = TOOLS_DIR / tool.module
    if tool.module == "certmanager":
        return _impatient(source, scratch)
    if tool.module != "calico":
        return source
    # calico's nested API module is not published: generate the part of it that Felix compiles against.
    work = scratch / "module"  # not the name of the binary that lands beside it
    shutil.copytree(source, work)
    upstream = _go(["list", "-m", "-f", "{{.Dir}}", "github.com/projectcalico/calico"], work).strip()
    if not upstream:
        _go(["mod", "download", "github.com/projectcalico/calico"], work)
        upstream = _go(["list", "-m", "-f", "{{.Dir}}", "github.com/projectcalico/calico"], work).strip()
    types = work / "api/pkg/apis/projectcalico/v3/types.go"
    types.parent.mkdir(parents=True)
    types.write_bytes(
        subprocess.run([sys.executable, "genapi.py", upstream], cwd=work, check=True, capture_output=True).stdout
    )
    return work


def _impatient(source: Path, scratch: Path) -> Path:
    """cert-manager, which waits a second and not a minute for resolvers' caches: no test has any."""
    module, wait = "github.com/cert-manager/cert-manager", "ttl := 60\n"
    upstream, work = scratch / "upstream", scratch / "module"
    found = Path(json.loads(_go(["mod", "download", "-json", module], source))["Dir"])
    shutil.copytree(found, upstream, ignore=shutil.ignore_patterns("design", "docs"), copy_function=shutil.copyfile)
    shutil.copytree(source, work)
    waiting = upstream / "pkg/issuer/acme/dns/dns.go"
    text = waiting.read_text()
    if text.count(wait) != 1:
        raise SystemExit(
            f"build: {module}: no `{wait.strip()}` in {waiting.name}; find the wait, and correct _impatient"
        )
    waiting.write_text(text.replace(wait, "ttl := 1\n"))
    _go(["mod", "edit", f"-replace={module}={upstream}"], work)
    return work


@cache
def build(name: str) -> Path:
    """The tool's binary, built unless the cache holds one of the same key. Raises SystemExit with Go's words."""
    tool = TOOLS[name]
    go_version = _go(["env", "GOVERSION"]).strip()
    folder = cache_dir() / "tools" / f"{name}-{key(tool, go_version)}"
    binary = folder / name
    if binary.exists():
        return binary
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if binary.exists():
            return binary
        print(f"build: {name} (about {tool.seconds} s on two cores)", flush=True)
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            flags = ["-trimpath", "-ldflags", f"-s -w {tool.ldflags}"]
            out = Path(scratch) / name
            if tool.version:
                _go(["install", *flags, f"{tool.package}@{tool.version}"], GOBIN=scratch)
            else:
                _go(["build", *flags, "-o", str(out), tool.package], _module_dir(tool, Path(scratch)))
            folder.mkdir(exist_ok=True)
            out.replace(binary)
        print(f"build: {name} done in {time.monotonic() - begun:.0f} s", flush=True)
    return binary


def main(names: Iterable[str]) -> None:
    """Build the named tools, or all that tests need."""
    for name in names or (name for name, tool in TOOLS.items() if not tool.bench):
        if name not in TOOLS:
            raise SystemExit(f"build: no tool {name!r}; there are {', '.join(TOOLS)}")
        build(name)


if __name__ == "__main__":
    main(sys.argv[1:])
