"""Says what the machine lacks before anything is started."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.testbed.process import TestbedError

_COMMANDS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "conntrack": "conntrack",
    "iptables": "iptables",
    "ipset": "ipset",
    "nft": "nftables",
    "ip": "iproute2",
    "sysctl": "procps",
    "nsenter": "util-linux",
    "go": "golang (1.24 or newer)",
}


def check() -> None:
    """Raises TestbedError that lists everything missing and how to get it."""
    if os.geteuid() != 0:
        raise TestbedError("testbed: it makes network namespaces and real nodes, so it needs root; run it with sudo")
    missing = sorted({package for command, package in _COMMANDS.items() if shutil.which(command) is None})
    if not Path("/usr/lib/cni/host-local").exists():
        missing.append("containernetworking-plugins")
    if missing:
        raise TestbedError(f"testbed: install {', '.join(missing)} first: `make setup` does it on Debian 12")
    if not Path("/sys/fs/cgroup").is_mount():
        raise TestbedError("testbed: no control groups are mounted on /sys/fs/cgroup")
