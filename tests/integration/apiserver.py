"""A real etcd and kube-apiserver on 127.0.0.1, with our CRDs, an admin kubeconfig and an audit log of metadata."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import functools
import ipaddress
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.testbed.build import build

CRDS = Path(__file__).parents[2] / "crds"
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_START_SECONDS = 90
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@functools.cache
def binary(name: str) -> str:
    """Path of a built server or tool."""
    return str(build(name))


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: a killed test run leaves no server behind


def _write_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return key


class Authority:
    """A certificate authority that lives in a folder for one test run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "domicile-test")])
        if (folder / "ca.crt").exists():
            key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._key = key
            return
        self._key = _write_key(folder / "ca.key")
        cert = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), True
        )
        cert = cert.add_extension(
            x509.KeyUsage(*(name in {"key_cert_sign", "crl_sign"} for name in _KEY_USAGES)), critical=True
        )
        self._sign(cert, "ca")

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def _sign(self, builder: x509.CertificateBuilder, name: str) -> None:
        pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (self.folder / f"{name}.crt").write_bytes(pem)

    def issue(self, name: str, user: str, group: str = "", hosts: tuple[str, ...] = ()) -> None:
        """Write <name>.crt and <name>.key for a user and for serving on loopback, and as these ``hosts``."""
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        if group:
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        builder = self._builder(x509.Name(attributes), _write_key(self.folder / f"{name}.key"))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = [*map(x509.DNSName, ("localhost", *hosts)), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        self._sign(builder.add_extension(x509.SubjectAlternativeName(names), critical=False), name)


_KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass
class ApiServer:
    """A running API server; every path lies in ``folder``."""

    folder: Path
    port: int
    etcd_port: int
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Base URL (https)."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of a member of system:masters."""
        return self.folder / "kubeconfig"

    def _spawn(self, name: str, *args: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self._processes[name] = subprocess.Popen(
            [binary(name), *args],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent,  # noqa: PLW1509
        )
        log.close()

    def start_etcd(self) -> None:
        """Start etcd on the same data and port as before."""
        url = f"http://127.0.0.1:{self.etcd_port}"
        self._spawn(
            "etcd", "--data-dir=etcd", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
            "--listen-peer-urls=http://127.0.0.1:0", "--unsafe-no-fsync", "--log-level=error",
        )  # fmt: skip

    def start_server(self) -> None:
        """Start kube-apiserver and wait until it is ready. Raises RuntimeError with the end of its log."""
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1", f"--secure-port={self.port}", "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--client-ca-file=ca.crt", "--tls-cert-file=server.crt", "--tls-private-key-file=server.key",
            "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=sa.pub",
            "--service-account-signing-key-file=sa.key", "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC", "--allow-privileged=true",
            "--audit-policy-file=audit-policy.yaml", "--audit-log-path=audit.log",
        )  # fmt: skip
        self._wait_ready()

    def start_controller_manager(self) -> None:
        """Start kube-controller-manager: namespaces vanish, Deployments get ReplicaSets, owners are followed."""
        self._spawn(
            "kube-controller-manager", "--kubeconfig=kubeconfig", "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--secure-port={free_port()}", "--root-ca-file=ca.crt",
            "--service-account-private-key-file=sa.key", "--use-service-account-credentials=false",
        )  # fmt: skip

    def stop(self, name: str, *, kill: bool = False) -> None:
        """Stop one of our servers and wait for its end."""
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one of our servers, such as SIGSTOP."""
        self._processes[name].send_signal(number)

    def stop_all(self) -> None:
        """Stop everything, the API server before its etcd."""
        for name in reversed(list(self._processes)):
            self.stop(name, kill=True)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._processes["kube-apiserver"].poll() is not None:
                break
            if self.kubectl("get", "--raw=/readyz", check=False).stdout == "ok":
                return
            time.sleep(0.25)
        tail = (self.folder / "kube-apiserver.log").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"kube-apiserver was not ready in {_START_SECONDS} s:\n{tail}")

    def kubectl(self, *args: str, stdin: object | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl as admin; ``stdin`` is an object that becomes JSON. Raises AssertionError with its words."""
        done = subprocess.run(
            [binary("kubectl"), f"--kubeconfig={self.kubeconfig}", *args],
            input=None if stdin is None else json.dumps(stdin),
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}"
        return done

    def get(self, *args: str) -> Any:
        """``kubectl get ... -o json``, parsed, managedFields included."""
        return json.loads(self.kubectl("get", *args, "-o", "json", "--show-managed-fields").stdout)

    def apply(self, *objects: dict[str, Any], manager: str = "test") -> None:
        """Server-side apply by a field manager of its own."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl(
            "apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", stdin=items
        )

    def audit(self, user_agent: str, verbs: Sequence[str] = tuple(_WRITES)) -> list[dict[str, Any]]:
        """Finished requests of user agents that start so, in the order of the audit log."""
        # The log is written before the answer is sent, but the last line may still be in the making.
        lines = (self.folder / "audit.log").read_text().splitlines()
        events = []
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError):
                events.append(json.loads(line))
        return [e for e in events if e.get("userAgent", "").startswith(user_agent) and e["verb"] in verbs]


def _kubeconfig(server: ApiServer) -> dict[str, Any]:
    folder = server.folder
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [
            {"name": "test", "cluster": {"server": server.url, "certificate-authority": str(folder / "ca.crt")}}
        ],
        "users": [
            {
                "name": "admin",
                "user": {
                    "client-certificate": str(folder / "admin.crt"),
                    "client-key": str(folder / "admin.key"),
                },
            }
        ],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
    }


@contextlib.contextmanager
def running(folder: Path, *, crds: bool = True) -> Iterator[ApiServer]:
    """An API server with our CRDs established. Ready in about 8 s."""
    for name in ("etcd", "kube-apiserver", "kubectl"):
        binary(name)
    server = ApiServer(folder, free_port(), free_port())
    authority = Authority(folder)
    authority.issue("server", "kube-apiserver")
    authority.issue("admin", "admin", "system:masters")
    _write_key(folder / "sa.key")
    (folder / "audit-policy.yaml").write_text(yaml.safe_dump(_AUDIT_POLICY))
    server.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(server)))
    try:
        server.start_etcd()
        server.start_server()
        if crds:
            server.kubectl("apply", "--server-side", "-f", str(CRDS))
            server.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRDS))
        yield server
    finally:
        server.stop_all()
