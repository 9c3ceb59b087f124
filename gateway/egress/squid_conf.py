"""squid's config (squid 5.7, squid-openssl of Debian 12), made of settings and routes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from domicile.gateway.egress.accounts import PUBLIC, UnknownError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Never, whatever a zone says: this pod, its node, several at once, and where clouds tell secrets to whoever asks.
NEVER = (
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/3",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "fe80::/10",
    "ff00::/8",
)
# Not reached by a public name: IANA's special-purpose registries.
_PRIVATE = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
)
# squid keeps IPv4 addresses as these: a rule on them is one on all of IPv4.
_MAPPED = ipaddress.ip_network("::ffff:0:0/96")
_ALL_4 = ipaddress.ip_network("0.0.0.0/0")
_GLOBAL_6 = ipaddress.ip_network("2000::/3")


def _without(whole: Sequence[Network], holes: Iterable[Network]) -> list[Network]:
    """What is left of networks without others."""
    left = list(whole)
    for hole in holes:
        kept: list[Network] = []
        for each in left:
            if each.version != hole.version or not each.overlaps(hole):
                kept.append(each)
            elif each != hole and hole.subnet_of(each):  # type: ignore[arg-type]
                kept += each.address_exclude(hole)  # type: ignore[arg-type]
        left = kept
    return left


def outside(networks: Sequence[str]) -> list[str]:
    """Every network that no address of a destination may lie in; ``networks``: those it must lie in, none for PUBLIC.

    Raises UnknownError for a network where nothing may ever be.
    """
    never = [ipaddress.ip_network(n) for n in NEVER]
    allowed = [ipaddress.ip_network(n) for n in networks]
    everything: list[Network] = [_ALL_4, *_without([ipaddress.ip_network("::/0")], [_MAPPED])]
    if not networks:
        refused = [ipaddress.ip_network(n) for n in (*NEVER, *_PRIVATE)]
        rest = _without([n for n in everything if n.version == 6], [_GLOBAL_6])
        return _spelled([*refused, *rest])
    for network in allowed:
        if any(network.version == n.version and network.subnet_of(n) for n in never):  # type: ignore[arg-type]
            raise UnknownError(f"accounts.json allows {network}, where no destination may be")
        if network.version == 6 and network.overlaps(_MAPPED):
            raise UnknownError(f"accounts.json allows {network}, which holds addresses of IPv4")
    return _spelled([*never, *_without(everything, allowed)])


def _spelled(networks: Iterable[Network]) -> list[str]:
    """None within another: squid drops one of the two."""
    both = list(networks)
    four = ipaddress.collapse_addresses(n for n in both if isinstance(n, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(n for n in both if isinstance(n, ipaddress.IPv6Network))
    return [str(n) for n in (*four, *six)]


def errors() -> dict[str, bytes]:
    """By name, the pages of refusals: all that a client is told."""
    return {_page(reason): f"{reason}\n".encode() for reason in _REFUSALS}


def _page(reason: str) -> str:
    return f"ERR_EGRESS_{reason.upper().replace('-', '_')}"


def render(
    *,
    folder: Path,
    runtime: Path,
    port: int,
    nameservers: Sequence[str],
    helper: str,
    routes: Mapping[str, tuple[str, ...]],
) -> str:
    """The config. ``folder``: where a generation's files are read; ``runtime``: where squid writes.

    Raises UnknownError, as ``outside``.
    """
    ways = {PUBLIC: (), **dict(sorted(routes.items()))}
    lines = [*_basics(folder, runtime, port, nameservers), *_deciders(helper, folder)]
    for route, networks in ways.items():
        lines.append(f"acl to_{route} note route {route}")
        lines += [f"acl outside_{route} dst {network}" for network in outside(networks)]
    lines.append("http_access deny !CONNECT is_method")
    # The last word of a rule chooses the page.
    lines += [f"http_access deny !decide said_{r}" for r in _SAID]
    lines.append("http_access deny !decide")
    for route in ways:
        lines.append(f"http_access deny to_{route} outside_{route} is_private")
    # What has no address matches no rule above, nor this one.
    lines += [f"http_access allow to_{route} resolved" for route in ways]
    lines += ["http_access deny is_dns", "ssl_bump peek step1"]
    # The name may have got other addresses while the client was silent.
    lines += [f"ssl_bump terminate step2 to_{route} outside_{route}" for route in ways]
    # Said as what is allowed: where the helper can't answer, the tunnel ends.
    lines += ["ssl_bump splice step2 same_name", "ssl_bump terminate all"]
    # squid gives any refusal but a 407 inside a tunnel, by a certificate of its own making.
    lines += [f"deny_info 407:{_page(reason)} {acl}" for reason, acls in _REFUSALS.items() for acl in acls]
    return "\n".join(lines) + "\n"


_SAID = ("credential", "not-listed", "port")
_REFUSALS = {
    "method": ("is_method",),
    "credential": ("said_credential", "decide"),
    "not-listed": ("said_not-listed",),
    "port": ("said_port",),
    "private-destination": ("is_private",),
    "dns": ("is_dns",),
}


def _basics(folder: Path, runtime: Path, port: int, nameservers: Sequence[str]) -> list[str]:
    # It never shows that certificate, and wants it all the same.
    bump = f"ssl-bump cert={runtime}/bump.pem generate-host-certificates=off"
    words = "%ts.%03tu %#>a %#rm %#>rd %>rP %#ssl::>sni %<a %>Hs %<st %>st %tr"
    notes = "%#{account}note %#{stage}note %#{reason}note %#{late}note"
    return [
        "visible_hostname egress",
        f"http_port 127.0.0.1:{port} require-proxy-header {bump}",
        "acl stunnel src 127.0.0.1/32",
        "proxy_protocol_access allow stunnel",
        f"pid_filename {runtime}/squid.pid",
        f"coredump_dir {runtime}",
        "cache_log stdio:/dev/stderr",
        "cache deny all",
        "cache_mem 0 MB",
        "memory_pools off",
        "max_filedescriptors 8192",
        "pinger_enable off",
        "hosts_file none",
        "dns_defnames off",
        *([f"dns_nameservers {' '.join(nameservers)}"] if nameservers else []),
        "positive_dns_ttl 60 seconds",
        "negative_dns_ttl 5 seconds",
        "forwarded_for delete",
        "httpd_suppress_version_string on",
        "client_persistent_connections off",
        "shutdown_lifetime 25 seconds",
        "request_header_max_size 16 KB",
        "connect_timeout 10 seconds",
        "request_start_timeout 30 seconds",
        f"error_directory {folder}/errors",
        f"logformat decision {words} {notes} %ssl::bump_mode %err_code",
        f"access_log stdio:{runtime}/decisions logformat=decision",
        "buffered_logs off",
        "logfile_rotate 0",
    ]


def _deciders(helper: str, folder: Path) -> list[str]:
    options = "children-max=2 children-startup=1 ttl=0 negative_ttl=0 concurrency=1000"
    # "#": what a client has chosen is URL-encoded, whatever is in it; otherwise it could end a line.
    asked = "%#{Proxy-Authorization}>h %#{clt_conn_tag}note %#>rd %>rP"
    return [
        f"external_acl_type decide {options} {asked} {helper} connect {folder}/accounts.json",
        f"external_acl_type same_name {options} %#>rd %#ssl::>sni {helper} name",
        "acl CONNECT method CONNECT",
        "acl decide external decide",
        "acl same_name external same_name",
        "acl step1 at_step SslBump1",
        "acl step2 at_step SslBump2",
        "acl resolved dst all",
        *(f"acl said_{reason} note reason {reason}" for reason in _SAID),
        "acl is_method annotate_transaction reason=method",
        "acl is_private annotate_transaction reason=private-destination",
        "acl is_dns annotate_transaction reason=dns",
    ]
