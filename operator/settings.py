"""Settings of the operator process, read from environment variables with the prefix DOMICILE_."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from domicile.api.common import DnsLabel
from domicile.scraping import ScrapeSettings


class Settings(ScrapeSettings):
    """One field for each variable: DOMICILE_SITES, DOMICILE_NAMESPACE and so on."""

    sites: Annotated[
        tuple[DnsLabel, ...],
        NoDecode,
        Field(
            description="Sites that this cluster serves, separated by commas; at most one of each zone.", min_length=1
        ),
    ]
    namespace: Annotated[str, Field(description="Namespace of the operator and the lease agent.")] = "domicile-system"
    image: Annotated[
        str, Field(description="Image of guard and replicator, as the operator puts it into pods.", min_length=1)
    ] = "domicile.dev/domicile:0.1.0"
    image_pull_policy: Annotated[
        str, Field(description="Pull policy of that image.", pattern="^(Always|IfNotPresent|Never)$")
    ] = "IfNotPresent"
    door_image: Annotated[str, Field(description="Image of the tenants' front doors.", min_length=1)] = (
        "domicile.dev/frontdoor:0.1.0"
    )
    gateway_image: Annotated[str, Field(description="Image of the tenants' gateways to models.", min_length=1)] = (
        "domicile.dev/gateway:0.1.0"
    )
    outside: Annotated[
        tuple[tuple[Annotated[str, Field(min_length=1)], Annotated[int, Field(ge=1, le=65535)]], ...],
        NoDecode,
        Field(
            description="Hosts and TCP ports outside, such as example.com:443, separated by commas: that no tenant's"
            " pods reach them is tried."
        ),
    ] = ()
    way_out: Annotated[
        str | None,
        Field(description="The site's way out, host:port, where the installation uses it (domicile.forwarding)."),
    ] = None
    credentials_dir: Annotated[
        Path, Field(description="Folder of <site>.json store credentials; a missing file means workload identity.")
    ] = Path("/etc/domicile/credentials")
    keys_dir: Annotated[
        Path, Field(description="Folder of <key>.public.json and <key>.private.json of the sites' keys.")
    ] = Path("/etc/domicile/keys")
    identity_dir: Annotated[
        Path, Field(description="Folder of <zone>.json accounts at identity servers, and <zone>.pem CA bundles.")
    ] = Path("/etc/domicile/identity")
    models_dir: Annotated[Path, Field(description="Folder of <key>.key, by which model providers are asked.")] = Path(
        "/etc/domicile/models"
    )
    resync_seconds: Annotated[
        float, Field(description="Every object is looked at again within this time (seconds).", ge=1, le=3600)
    ] = 30.0
    workers: Annotated[int, Field(description="Objects that are reconciled at the same time.", ge=1, le=256)] = 16
    port: Annotated[int, Field(description="TCP port of /healthz and /readyz; 0 picks a free one.", ge=0, le=65535)] = (
        8080
    )
    silence_seconds: Annotated[
        float,
        Field(
            description="/healthz fails when nothing was listed, or no worker moved, for this long (seconds).", ge=10
        ),
    ] = 300.0
    lease_name: Annotated[str, Field(description="Lease by which one operator of several leads.")] = "domicile-operator"
    identity: Annotated[
        str, Field(description="Name of this process among the candidates. Default: the host name, which is the pod's.")
    ] = Field(default_factory=lambda: os.environ.get("HOSTNAME") or socket.gethostname())

    @field_validator("outside", mode="before")
    @classmethod
    def _places(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(
            (host, port) for s in value.split(",") if s.strip() for host, _, port in [s.strip().rpartition(":")]
        )

    @field_validator("sites", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(s.strip() for s in value.split(",") if s.strip()) if isinstance(value, str) else value
