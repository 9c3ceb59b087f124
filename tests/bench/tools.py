"""The commands that are compared: our driver and rclone, for a lane from one store to another.

rclone's flags: ``--update --use-server-modtime`` compares the times of the two stores and needs no HEAD per object;
``--use-server-modtime`` alone copies everything again at every run, for the modification time that crypt's remote then
shows is not the source's. ``--s3-list-version 2``: provider Other lists by the older API.
"""

from __future__ import annotations

import json
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.bench.servers import ACCESS, LOCATION, REGION, SECRET, BenchError, Servers, environment, helper, module

DEFAULTS = "rclone, defaults"
BEST = "rclone"
OURS = "ours"
_COMMON = ("--fast-list", "--s3-no-head", "--use-server-modtime", "--update", "--s3-list-version", "2")
FLAGS: dict[str, tuple[str, ...]] = {
    BEST: ("--transfers", "16", "--checkers", "16", *_COMMON, "--s3-no-check-bucket", "--gcs-no-check-bucket"),
    DEFAULTS: (),
}


@dataclass(frozen=True)
class Tool(ABC):
    """One contestant in one lane: it replicates bucket ``live`` of ``source`` to ``target`` and restores it there."""

    name: str
    servers: Servers
    source: str
    target: str
    live: str
    tag: str
    flags: tuple[str, ...] = ()

    @property
    def restored(self) -> str:
        """The bucket that a restore fills."""
        return f"{self.tag}-restored"

    @property
    def replica(self) -> str:
        """The bucket of the sealed copy."""
        return f"{self.tag}-replica"

    @abstractmethod
    def prepare(self) -> None:
        """Create its buckets."""

    @abstractmethod
    def replicate(self) -> list[str]:
        """Command of a run."""

    @abstractmethod
    def restore(self) -> list[str]:
        """Command of a restore."""

    def variables(self) -> dict[str, str]:
        """What the commands find in their environment."""
        return {}

    def clean(self) -> None:
        """Remove what ``prepare`` made."""
        for bucket in (self.restored, self.replica):
            self.servers.drop(self.target, bucket)


class Ours(Tool):
    """Our engine, by its driver."""

    @property
    def lane(self) -> Path:
        """The driver's description of the lane."""
        return self.servers.root / f"{self.tag}.json"

    @property
    def _roles(self) -> dict[str, tuple[str, str]]:
        return {
            "replica": (self.replica, "target"),
            "restored": (self.restored, "target"),
            "control_target": (f"{self.tag}-control", "target"),
            "control_own": (f"{self.tag}-own", "source"),
        }

    def prepare(self) -> None:
        credentials = self.servers.root / "credentials"
        credentials.mkdir(exist_ok=True)
        sites = {"source": self._site("source", self.source), "target": self._site("target", self.target)}
        for site, store in (("source", self.source), ("target", self.target)):
            if store == "s3":
                account = {"accessKeyId": ACCESS, "secretAccessKey": SECRET}
                (credentials / f"{site}.json").write_text(json.dumps(account))
            else:
                (credentials / f"{site}.json").unlink(missing_ok=True)
        lane = {"tenant": "0" * 32, "credentials": str(credentials), "live": self.live}
        self.lane.write_text(json.dumps(lane | sites | {role: name for role, (name, _) in self._roles.items()}))
        buckets = [f"{name}={site}" for name, site in self._roles.values()]
        helper(self.servers.root, "ours", "buckets", self.lane, *buckets)

    def _site(self, name: str, store: str) -> dict[str, Any]:
        cloud, region = ("gcp", LOCATION) if store == "gcs" else ("aws", REGION)
        roles = {role: f"{name}-{role}" for role in ("replica", "keys", "control")}
        stores = {
            "profile": "compatible",
            "endpoint": self.servers.url(store),
            "live": {"createPrefix": f"{name}-live"},
        }
        return {"name": name, "cloud": cloud, "region": region, "key": {"name": name}, "stores": stores | roles}

    def replicate(self) -> list[str]:
        return module("ours", "replicate", self.lane)

    def shards(self, count: int) -> list[list[str]]:
        """Commands of a run that is split."""
        return [module("ours", "replicate", self.lane, f"{number}/{count}") for number in range(count)]

    def restore(self) -> list[str]:
        return module("ours", "restore", self.lane)

    def clean(self) -> None:
        for name, site in self._roles.values():
            self.servers.drop(self.source if site == "source" else self.target, name)


@dataclass(frozen=True)
class Rclone(Tool):
    """rclone to a crypt remote."""

    binary: Path = Path("rclone")

    def prepare(self) -> None:
        (self.servers.root / "rclone.conf").touch(0o600)
        (self.servers.root / "rclone.conf").write_text(self._config())
        self.call("mkdir", f"{self.target}:{self.replica}")
        self.call("mkdir", f"{self.target}:{self.restored}")

    def _config(self) -> str:
        gcs = {
            "type": "google cloud storage",
            "endpoint": f"{self.servers.url('gcs')}/storage/v1/",
            "anonymous": "true",
            "bucket_policy_only": "true",
            "project_number": "1",
            "location": LOCATION.upper(),
        }
        s3 = {
            "type": "s3",
            "provider": "Other",
            "endpoint": self.servers.url("s3"),
            "access_key_id": ACCESS,
            "secret_access_key": SECRET,
            "region": REGION,
        }
        remotes = {"gcs": gcs, "s3": s3}
        return "".join(
            f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
            for name, options in remotes.items()
        )

    def variables(self) -> dict[str, str]:
        return {"RCLONE_CONFIG": str(self.servers.root / "rclone.conf")}

    @property
    def crypt(self) -> str:
        """The remote of the sealed copy; crypt's password is any 8 characters in rclone's obscured form."""
        password = "futsuHujZnzNaHRVKcPkQjMqSg2-QCq6"
        return f":crypt,remote='{self.target}:{self.replica}',password={password}:"

    def replicate(self) -> list[str]:
        return [str(self.binary), "sync", f"{self.source}:{self.live}", self.crypt, *self.flags]

    def restore(self) -> list[str]:
        return [str(self.binary), "copy", self.crypt, f"{self.target}:{self.restored}", *self.flags]

    def call(self, *arguments: str) -> str:
        """Run rclone outside of a measurement."""
        done = subprocess.run(
            [str(self.binary), *arguments],
            env=environment(self.servers.root) | self.variables(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"bench: rclone {arguments[0]} failed:\n{done.stderr[-2000:]}")
        return done.stdout


def tool(name: str, servers: Servers, binary: Path, lane: Sequence[str], live: str, run: int) -> Tool:
    """A contestant by name, with buckets of its own for the run."""
    source, target = lane
    if name == OURS:
        return Ours(name, servers, source, target, live, f"ours-{run}")
    tag = f"rclone-{list(FLAGS).index(name)}-{run}"
    return Rclone(name, servers, source, target, live, tag, FLAGS[name], binary)


def with_flags(found: Tool, flags: tuple[str, ...], tag: str) -> Tool:
    """The same tool with other flags and buckets."""
    return replace(found, flags=flags, tag=tag)
