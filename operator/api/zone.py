"""ResidencyZone: a legal area, the cloud regions in it, its one or two sites and what may be used there."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from domicile.api.common import (
    CERTIFICATES,
    IMMUTABLE,
    LIST_ATOMIC,
    LIST_SET,
    PORT,
    BucketName,
    Dated,
    DnsLabel,
    Model,
    Region,
    cel,
    list_map,
    validations,
)
from domicile.api.conditions import Conditions
from domicile.api.egress import AllowedDestination
from domicile.api.providers import ModelProvider, RegionOfProvider


class Cloud(StrEnum):
    """Who operates the region. ``onprem`` is any S3-compatible store outside the two clouds."""

    GCP = "gcp"
    AWS = "aws"
    ONPREM = "onprem"


class Profile(StrEnum):
    """How much a store's API can prove: ``cloud`` answers every residency check, ``compatible`` needs attestations."""

    CLOUD = "cloud"
    COMPATIBLE = "compatible"


class OnPartition(StrEnum):
    """What the holder of a claim does while it can't reach the peer's control bucket and no witness exists."""

    SERVE = "serve"
    STOP = "stop"


class Subject(StrEnum):
    """A property of a store that its API may be unable to show; the last four are a site's, and no API shows them."""

    LOCATION = "location"
    ENCRYPTION = "encryption"
    VERSIONING = "versioning"
    PUBLIC_ACCESS = "publicAccess"
    TRANSPORT = "transport"
    OUTFLOWS = "outflows"
    RETENTION = "retention"
    LOG_LOCATION = "logLocation"
    ETCD_ENCRYPTION = "etcdEncryption"
    TELEMETRY = "telemetry"
    IDENTITY_SERVER = "identityServer"


class AllowedRegions(Model):
    """The regions of one cloud in which the zone's data may be stored and processed."""

    cloud: Annotated[Cloud, Field(description="Cloud whose regions are listed.")]
    regions: Annotated[
        list[Region],
        Field(
            description="Exact region names. Prefixes and multi-regions don't exist here: what isn't listed is"
            " outside.",
            min_length=1,
            max_length=64,
            json_schema_extra=LIST_SET,
        ),
    ]


class LiveBuckets(Model):
    """Where tenants' live buckets come from: a prepared pool, or buckets that the operator creates."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.pool) != has(self.createPrefix)", "set exactly one of pool and createPrefix")
        ),
    )

    pool: Annotated[
        list[BucketName] | None,
        Field(
            description="Prepared buckets with opaque names; each serves one tenant and is never given to a second"
            " one.",
            min_length=1,
            max_length=10000,
            json_schema_extra=LIST_SET,
        ),
    ] = None
    create_prefix: Annotated[
        str | None,
        Field(
            description="The operator creates a bucket named <prefix>-<random> in the site's region for each tenant.",
            pattern=r"^[a-z0-9][a-z0-9-]{1,30}$",
        ),
    ] = None


class Stores(Model):
    """The object store of a site: one endpoint, the site's three buckets and the source of live buckets."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "(self.profile == 'compatible') == has(self.endpoint)",
                "endpoint is required with profile compatible and derived from the region with profile cloud",
            ),
            cel(
                "self.replica != self.keys && self.keys != self.control && self.replica != self.control",
                "replica, keys and control must be three different buckets",
            ),
        ),
    )

    profile: Annotated[Profile, Field(description="cloud: every check runs. compatible: attestations fill the gaps.")]
    endpoint: Annotated[
        str | None,
        Field(
            description="URL of a compatible store. With profile cloud the regional endpoint is derived from the"
            " region.",
            pattern=rf"^https?://[a-z0-9.-]+{PORT}$",
            max_length=253,
        ),
    ] = None
    endpoint_cidrs: Annotated[
        list[str],
        Field(
            description="Address ranges (CIDR) of the endpoint that network policies open on its port. An endpoint"
            " given as an IPv4 address needs none.",
            max_length=64,
            json_schema_extra=LIST_SET,
        ),
    ] = []
    account_id: Annotated[
        str | None,
        Field(
            description="AWS account that owns the site's buckets. Every call names it, so that a bucket of somebody"
            " else is refused.",
            pattern=r"^[0-9]{12}$",
        ),
    ] = None
    replica: Annotated[BucketName, Field(description="Bucket for sealed snapshots of tenants active at the peer.")]
    keys: Annotated[BucketName, Field(description="Bucket for wrapped tenant keys; versioning and soft delete off.")]
    control: Annotated[BucketName, Field(description="Bucket for claims, commits and the sealed tenant mirror.")]
    live: Annotated[LiveBuckets, Field(description="Where live buckets come from.")]


class AwsKmsKey(Model):
    """A symmetric key of AWS KMS."""

    arn: Annotated[
        str,
        Field(
            description="ARN of the key itself, in the site's region. Aliases and multi-region keys are refused.",
            # An alias may be pointed at another key, and material of a multi-region key is copied to other regions.
            pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-z0-9-]{36,40}$",
            max_length=256,
            json_schema_extra=validations(
                cel("!self.contains(':key/mrk-')", "a multi-region key leaves the region; use a single-region key")
            ),
        ),
    ]


class GcpKmsKey(Model):
    """A symmetric key of Google Cloud KMS."""

    name: Annotated[
        str,
        Field(
            description="Resource name of the key, without a version, in the site's region.",
            pattern=r"^projects/[a-z0-9:.-]+/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]{1,63}"
            r"/cryptoKeys/[A-Za-z0-9_-]{1,63}$",
            max_length=256,
        ),
    ]


_ONE_KEY = cel(
    "[has(self.name), has(self.awsKms), has(self.gcpKms)].filter(k, k).size() == 1",
    "set exactly one of name, awsKms and gcpKms",
)


class KeyRef(Model):
    """One key-encryption key: a pair of files, or a key in the KMS of the site's cloud."""

    model_config = ConfigDict(json_schema_extra=validations(_ONE_KEY))

    name: Annotated[
        DnsLabel | None,
        Field(
            description="For development and sites without a KMS: <name>.public.json (every site of the zone) and"
            " <name>.private.json (its own site) in the operator's keys Secret."
        ),
    ] = None
    aws_kms: Annotated[AwsKmsKey | None, Field(description="A key of AWS KMS, for a site on AWS.")] = None
    gcp_kms: Annotated[GcpKmsKey | None, Field(description="A key of Cloud KMS, for a site on Google Cloud.")] = None


def _same_key(one: str, other: str) -> str:
    fields = ("name", "awsKms.arn", "gcpKms.name")
    pairs = [(f"{one}.{f}", f"{other}.{f}", f.split(".", maxsplit=1)[0]) for f in fields]
    return " || ".join(f"(has({one}.{root}) && has({other}.{root}) && {a} == {b})" for a, b, root in pairs)


class SiteKey(KeyRef):
    """The site's key-encryption key. Another may take its place; it then goes to ``previous`` until the rewrap."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            _ONE_KEY,
            cel(
                f"{_same_key('self', 'oldSelf')}"
                f" || (has(self.previous) && self.previous.exists(p, {_same_key('p', 'oldSelf')}))",
                "tenant keys are wrapped with the present key: move it to previous, run `domicile keys rewrap` at the"
                " site, and remove it then",
            ),
        )
    )

    previous: Annotated[
        list[KeyRef],
        Field(
            description="Keys that older wraps were made with. They only open; `domicile keys rewrap` makes them"
            " needless.",
            max_length=4,
            json_schema_extra=LIST_ATOMIC,
        ),
    ] = []


def _key_at_home(key: str) -> str:
    """CEL: a KMS key lies in the cloud and region of the Site that ``self`` is."""
    return (
        f"(!has({key}.awsKms) || (self.cloud == 'aws' && {key}.awsKms.arn.split(':')[3] == self.region))"
        f" && (!has({key}.gcpKms) || (self.cloud == 'gcp' && {key}.gcpKms.name.split('/')[3] == self.region))"
    )


class Site(Model):
    """One cloud region of the zone. Every site runs an operator of its own; the sites meet in the stores only."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "self.cloud != 'onprem' || self.stores.profile == 'compatible'",
                "an onprem site needs stores of profile compatible: no cloud's API answers the checks",
            ),
            cel(
                "self.cloud == 'aws' ? self.stores.profile != 'cloud' || has(self.stores.accountId)"
                " : !has(self.stores.accountId)",
                "stores.accountId is required with cloud aws and profile cloud, and unknown to other clouds",
            ),
            cel(
                f"{_key_at_home('self.key')}"
                f" && (!has(self.key.previous) || self.key.previous.all(p, {_key_at_home('p')}))",
                "a KMS key must lie in the site's own cloud and region",
            ),
            cel(
                "!has(self.storeCaBundle) || (has(self.stores.endpoint) && self.stores.endpoint.startsWith('https:'))",
                "storeCaBundle is for a store whose endpoint begins with https",
            ),
            cel(
                "!has(self.liveIdentity) || (self.stores.profile == 'cloud' && (self.cloud == 'aws'"
                " ? self.liveIdentity.startsWith('arn:') && self.liveIdentity.split(':')[4] == self.stores.accountId"
                " : !self.liveIdentity.startsWith('arn:')))",
                "liveIdentity is a role of stores.accountId on aws and a service account on gcp, with profile cloud",
            ),
        ),
    )

    name: Annotated[DnsLabel, Field(description="Name of the site, unique over all zones that share its cluster.")]
    cloud: Annotated[
        Cloud, Field(description="Cloud that operates the site's region.", json_schema_extra=validations(IMMUTABLE))
    ]
    region: Annotated[
        Region,
        Field(
            description="Region of the site's stores, and the topology.kubernetes.io/region label of its nodes.",
            json_schema_extra=validations(IMMUTABLE),
        ),
    ]
    stores: Annotated[Stores, Field(description="The site's object store.", json_schema_extra=validations(IMMUTABLE))]
    store_ca_bundle: Annotated[
        str | None,
        Field(
            description="Certificates (PEM, nothing else) of the authorities that vouch for a compatible store with an"
            " https endpoint, in place of the system's.",
            pattern=CERTIFICATES,
            max_length=32768,
        ),
    ] = None
    key: Annotated[SiteKey, Field(description="Key-encryption key of the site.")]
    live_identity: Annotated[
        str | None,
        Field(
            description="For stores of profile cloud: the IAM role (ARN) or service account (e-mail address) that may"
            " use the site's live buckets. The operator mints credentials from it that end within hours, for each"
            " tenant's pods and bucket alone.",
            pattern=r"^(arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,128}"
            r"|[a-z][a-z0-9-]{4,28}[a-z0-9]@[a-z][a-z0-9-]{4,28}[a-z0-9]\.iam\.gserviceaccount\.com)$",
            max_length=256,
        ),
    ] = None


_HTTPS = rf"^https://[A-Za-z0-9.-]+{PORT}(/[A-Za-z0-9._~/-]*)?$"


class PodRef(Model):
    """Pods of the site's own cluster."""

    namespace: Annotated[DnsLabel, Field(description="Their namespace.")]
    labels: Annotated[dict[str, str], Field(description="Their labels.", min_length=1)]
    port: Annotated[int, Field(description="The TCP port that they listen on.", ge=1, le=65535)]


_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


class MailServer(Model):
    """Where the zone's identity server hands in mail to people: SMTP, TLS from the start (RFC 8314, section 3.3)."""

    host: Annotated[
        str,
        Field(
            description="Its name, which its certificate must have.",
            pattern=rf"^{_LABEL}(\.{_LABEL})*$",
            max_length=253,
        ),
    ]
    port: Annotated[int, Field(description="TCP port on which TLS comes first; never STARTTLS.", ge=1, le=65535)] = 465
    sender: Annotated[
        str,
        Field(
            description="Address that the mail comes from.",
            pattern=r"^[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$",
            max_length=254,
        ),
    ]
    account: Annotated[
        DnsLabel | None,
        Field(
            description="<account>.mail.json with user and password in the operator's Secret of identity accounts;"
            " none where the server asks for none."
        ),
    ] = None


class IdentityServer(Model):
    """The zone's Keycloak, which each site runs for itself: people's accounts and sessions stay at the site."""

    url: Annotated[
        str,
        Field(
            description="Base URL as browsers see it, the same at both sites; issuers are <url>/realms/<realm>.",
            pattern=_HTTPS,
            max_length=253,
        ),
    ]
    admin_url: Annotated[
        str | None,
        Field(
            description="Base URL at which a site's operator reaches its own server. Default: url.",
            pattern=_HTTPS,
            max_length=253,
        ),
    ] = None
    door_url: Annotated[
        str | None,
        Field(
            description="Base URL at which a site's front doors reach it, such as a gate's. Default: adminUrl, or url.",
            pattern=_HTTPS,
            max_length=253,
        ),
    ] = None
    pods: Annotated[
        PodRef | None,
        Field(
            description="The pods behind doorUrl, where they run in each site's own cluster: front doors reach these."
        ),
    ] = None
    cidrs: Annotated[
        list[str],
        Field(
            description="The addresses behind doorUrl, where they are elsewhere: front doors reach these, on its port."
            " Through the site's way out all addresses of doorUrl and adminUrl must lie in them, if there are any.",
            max_length=32,
            json_schema_extra=LIST_SET,
        ),
    ] = []
    mail: Annotated[
        MailServer | None,
        Field(
            description="Its mail server, by which people with an account of a tenant's own show that their address is"
            " theirs; inside the zone, which the attestation of identityServer says, too."
        ),
    ] = None

    @property
    def for_operators(self) -> str:
        """Base URL at which a site's operator reaches its own."""
        return self.admin_url or self.url

    @property
    def for_doors(self) -> str:
        """Base URL at which front doors reach it, without a slash at its end."""
        return (self.door_url or self.for_operators).removesuffix("/")


class ApprovedIssuer(Dated):
    """An OpenID Connect issuer of somebody else's that tenants of the zone may let their people log in at.

    It processes personal data, and no API shows where: this is a person's dated word.
    """

    issuer: Annotated[str, Field(description="Issuer URL, exactly as it calls itself.", pattern=_HTTPS, max_length=512)]
    hosts: Annotated[
        list[Annotated[str, Field(pattern=r"^[a-z0-9.-]+$", max_length=253)]],
        Field(
            description="Hosts of its endpoints beside the issuer's own; an endpoint elsewhere is refused.",
            max_length=8,
            json_schema_extra=LIST_SET,
        ),
    ] = []
    cidrs: Annotated[
        list[Annotated[str, Field(max_length=43)]],
        Field(
            description="Addresses of its token and key endpoints: front doors reach these.",
            min_length=1,
            max_length=64,
            json_schema_extra=LIST_SET
            | validations(
                cel(
                    "self.all(c, isCIDR(c) && cidr(c) == cidr(c).masked())",
                    "give networks such as 203.0.113.0/24",
                )
            ),
        ),
    ]
    port: Annotated[int, Field(description="TCP port of these endpoints.", ge=1, le=65535)] = 443
    place: Annotated[
        str,
        Field(
            description="Where it keeps and processes people's data: country, and region or place.",
            min_length=2,
            max_length=128,
        ),
    ]
    statement: Annotated[str, Field(description="What holds, and where the proof lies.", min_length=10, max_length=512)]
    attested_on: Annotated[date, Field(description="Day of the attestation (YYYY-MM-DD).")]
    expires_on: Annotated[date, Field(description="First day on which it no longer counts (YYYY-MM-DD).")]


class Attestation(Model):
    """A person's dated word on what no API shows. Reported as Attested, never as Verified."""

    site: Annotated[DnsLabel, Field(description="Site that is attested.")]
    subject: Annotated[
        Subject,
        Field(
            description="Property that is attested: with profile compatible any that the store's API can't show, and"
            " in every site logLocation, etcdEncryption, telemetry and, with identity, identityServer"
            " (docs/residency.md)."
        ),
    ]
    statement: Annotated[str, Field(description="What holds, and where the proof lies.", min_length=10, max_length=512)]
    attested_on: Annotated[date, Field(description="Day of the attestation (YYYY-MM-DD).")]
    expires_on: Annotated[date, Field(description="First day on which it no longer counts (YYYY-MM-DD).")]


class ResidencyZoneSpec(Model):
    """Desired state of a zone."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "self.sites.all(s, self.allowedRegions.exists(a, a.cloud == s.cloud && s.region in a.regions))",
                "every site's region must be listed in allowedRegions of its cloud",
            ),
            cel(
                "self.sites.size() < 2 || self.sites[0].stores.control != self.sites[1].stores.control"
                " || self.sites[0].cloud != self.sites[1].cloud",
                "two sites of one cloud need buckets of their own",
            ),
            cel(
                "!has(self.identity) || self.sites.size() < 2 || has(self.identity.adminUrl)",
                "with two sites identity.adminUrl is required: each operator must reach the server of its own site",
            ),
            cel(
                "!has(self.externalIssuers) || self.externalIssuers.all(i, i.attestedOn < i.expiresOn)",
                "externalIssuers: expiresOn must be after attestedOn",
            ),
            cel(
                "!has(self.allowedDestinations)"
                " || self.allowedDestinations.all(d, d.contract.attestedOn < d.contract.expiresOn)",
                "allowedDestinations: expiresOn must be after attestedOn",
            ),
            cel(
                "oldSelf.sites.map(s, s.name) == self.sites.map(s, s.name)"
                " || (oldSelf.sites.size() == 1 && self.sites[0].name == oldSelf.sites[0].name)",
                "sites keep their order, for claim numbers depend on it; only a second site may be added",
            ),
        ),
    )

    jurisdiction: Annotated[
        str,
        Field(
            description="Legal area, such as EU, US or DE; a label on every namespace of the zone.",
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,61}[A-Za-z0-9]$",
        ),
    ]
    allowed_regions: Annotated[
        list[AllowedRegions],
        Field(
            description="Where the zone's data may be.", min_length=1, max_length=3, json_schema_extra=list_map("cloud")
        ),
    ]
    sites: Annotated[
        list[Site],
        Field(
            description="The zone's sites. The first is the default home and writes odd claim numbers, the second"
            " even.",
            min_length=1,
            max_length=2,
            json_schema_extra=list_map("name"),
        ),
    ]
    lease_seconds: Annotated[
        int,
        Field(
            description="Length D of a write lease in seconds: after a take-over nobody serves for as long.",
            ge=5,
            le=300,
            json_schema_extra=validations(
                cel("self == oldSelf", "is immutable: a take-over waits for the leases given")
            ),
        ),
    ] = 30
    on_partition: Annotated[
        OnPartition,
        Field(description="serve: the holder goes on on its own store's word; stop: it needs the peer's, too."),
    ] = OnPartition.SERVE
    model_regions: Annotated[
        list[RegionOfProvider],
        Field(
            description="Where model providers outside the cluster may process the zone's questions, by their own names"
            " for it. What isn't listed is outside.",
            max_length=64,
            json_schema_extra=LIST_SET,
        ),
    ] = []
    model_providers: Annotated[
        list[ModelProvider],
        Field(description="Model servers of the zone.", max_length=32, json_schema_extra=list_map("name")),
    ] = []
    identity: Annotated[
        IdentityServer | None,
        Field(description="Where people log in; needs an attestation of identityServer per site."),
    ] = None
    external_issuers: Annotated[
        list[ApprovedIssuer],
        Field(
            description="Issuers of others that tenants may use in place of identity; each is an attestation.",
            max_length=32,
            json_schema_extra=list_map("issuer"),
        ),
    ] = []
    allowed_destinations: Annotated[
        list[AllowedDestination],
        Field(
            description="Hosts outside the sites that tenants may ask for (spec.network.additionalEgress), and the"
            " addresses of model providers that are private; each is an attestation.",
            max_length=64,
            json_schema_extra=list_map("host", "port"),
        ),
    ] = []
    attestations: Annotated[
        list[Attestation],
        Field(
            description="What people vouch for.",
            max_length=64,
            json_schema_extra=list_map("site", "subject"),
        ),
    ] = []

    @property
    def leads_outside(self) -> bool:
        """Whether tenants may reach anything outside the sites."""
        return bool(self.allowed_destinations) or any(p.base_url is not None for p in self.model_providers)


class ResidencyZoneStatus(Model):
    """Observed state of a zone."""

    observed_generation: Annotated[int, Field(description="Generation of the spec that was last looked at.")] = 0
    site: Annotated[str | None, Field(description="The zone's site that this cluster serves, if any.")] = None
    conditions: Conditions = []
