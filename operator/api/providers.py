"""Model providers of a zone: what they are asked for, where, and what was agreed with them."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from domicile.api.common import CERTIFICATES, LIST_SET, PORT, Dated, DnsLabel, Model, cel, validations
from domicile.api.gateway import ProviderKind

RegionOfProvider = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Attested(StrEnum):
    """An audit or a listing of the provider's that somebody has looked at."""

    SOC_2 = "SOC2"
    CSA_STAR = "CSA-STAR"
    ISO_27001 = "ISO27001"
    ISO_42001 = "ISO42001"


class Need(StrEnum):
    """What a tenant must find with every provider of its pool."""

    HIPAA = "HIPAA"
    """A business associate agreement (45 CFR 164.504(e))."""
    ZERO_RETENTION = "ZeroRetention"
    SOC_2 = "SOC2"
    CSA_STAR = "CSA-STAR"
    ISO_27001 = "ISO27001"
    ISO_42001 = "ISO42001"
    REGISTERED_USE = "RegisteredUse"


class ServiceRef(Model):
    """A Service in the site's own cluster."""

    namespace: Annotated[DnsLabel, Field(description="Namespace of the Service.")]
    name: Annotated[DnsLabel, Field(description="Name of the Service.")]
    port: Annotated[int, Field(description="TCP port of the Service.", ge=1, le=65535)]
    target_port: Annotated[
        int | None, Field(description="TCP port of its pods, where it differs from port.", ge=1, le=65535)
    ] = None
    pod_labels: Annotated[
        dict[str, str],
        Field(description="Labels of the pods behind the Service; network policies open exactly these.", min_length=1),
    ]

    @property
    def pod_port(self) -> int:
        """TCP port that the pods listen on."""
        return self.target_port or self.port


class Contract(Dated):
    """What was agreed with a provider that processes the zone's questions, as a person's dated word."""

    model_config = ConfigDict(
        json_schema_extra=validations(cel("self.attestedOn < self.expiresOn", "expiresOn must be after attestedOn"))
    )

    processor: Annotated[str, Field(description="The company that it is with.", min_length=2, max_length=128)]
    regions: Annotated[
        list[RegionOfProvider],
        Field(
            description="Where it processes, by the provider's own names; each must be one of the zone's modelRegions.",
            min_length=1,
            max_length=16,
            json_schema_extra=LIST_SET,
        ),
    ]
    data_processing: Annotated[
        bool, Field(description="There is a data processing agreement (GDPR, article 28, or its like).")
    ]
    no_training: Annotated[bool, Field(description="What is sent trains no model.")]
    retention_days: Annotated[
        int, Field(description="Days for which the provider keeps what is sent; up to 30, for review of abuse.", ge=0)
    ]
    business_associate: Annotated[
        bool, Field(description="There is a business associate agreement (45 CFR 164.504(e)).")
    ] = False
    attestations: Annotated[
        list[Attested],
        Field(description="Audits and listings that were looked at.", max_length=8, json_schema_extra=LIST_SET),
    ] = []
    use_case: Annotated[
        str | None,
        Field(description="Under what the use is registered with the provider.", min_length=1, max_length=128),
    ] = None
    sub_processors: Annotated[
        list[Annotated[str, Field(min_length=2, max_length=128)]],
        Field(description="Who else processes for it.", max_length=64, json_schema_extra=LIST_SET),
    ] = []
    statement: Annotated[str, Field(description="What holds, and where the proof lies.", min_length=10, max_length=512)]
    attested_on: Annotated[date, Field(description="Day of this word (YYYY-MM-DD).")]
    expires_on: Annotated[date, Field(description="First day on which nothing is sent any more (YYYY-MM-DD).")]

    def meets(self, need: Need) -> bool:
        """Whether a tenant finds here what it needs."""
        match need:
            case Need.HIPAA:
                return self.business_associate
            case Need.ZERO_RETENTION:
                return self.retention_days == 0
            case Need.REGISTERED_USE:
                return self.use_case is not None
            case _:
                return need.value in {a.value for a in self.attestations}


class ModelProvider(Model):
    """A server of models that tenants of the zone may ask, through their gateways."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.service) != has(self.baseUrl)", "set exactly one of service and baseUrl"),
            cel(
                "!has(self.tokenUrl) || (has(self.baseUrl) && has(self.key) && self.type == 'gemini')",
                "tokenUrl is for a provider of type gemini with baseUrl and key",
            ),
            cel("!has(self.caBundle) || has(self.baseUrl)", "caBundle is for a provider with baseUrl"),
            cel("!has(self.baseUrl) || has(self.contract)", "a provider outside the cluster needs a contract"),
            cel(
                "!has(self.deployments) || self.deployments.all(m, m in self.models)",
                "deployments names a model that is not in models",
            ),
        ),
    )

    name: Annotated[DnsLabel, Field(description="Name of the provider.")]
    type: Annotated[ProviderKind, Field(description="The API that it speaks.")] = ProviderKind.COMPATIBLE
    service: Annotated[ServiceRef | None, Field(description="A model server inside each site's cluster.")] = None
    base_url: Annotated[
        str | None,
        Field(
            description="A provider outside the cluster: what its routes, such as /chat/completions, follow.",
            pattern=rf"^https://[a-z0-9.-]+{PORT}(/[A-Za-z0-9._~/-]*)?$",
            max_length=253,
        ),
    ] = None
    models: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]],
        Field(description="Model ids that may be asked for.", min_length=1, max_length=64, json_schema_extra=LIST_SET),
    ]
    deployments: Annotated[
        dict[str, Annotated[str, Field(min_length=1, max_length=128)]],
        Field(description="By model id, what the provider calls it, where that differs.", max_length=64),
    ] = {}
    key: Annotated[
        DnsLabel | None,
        Field(description="<key>.key in the operator's Secret of model keys; none where the provider asks for none."),
    ] = None
    token_url: Annotated[
        str | None,
        Field(
            description="Where tokens for the key come from: it is JSON, of a service account or of workload identity"
            " federation. Without it the key is sent as it is.",
            pattern=rf"^https://[a-z0-9.-]+{PORT}(/[A-Za-z0-9._~/-]*)?$",
            max_length=253,
        ),
    ] = None
    ca_bundle: Annotated[
        str | None,
        Field(
            description="Certificates (PEM, nothing else) of the authorities that vouch for it, in place of the"
            " system's.",
            pattern=CERTIFICATES,
            max_length=32768,
        ),
    ] = None
    contract: Annotated[Contract | None, Field(description="What was agreed with it.")] = None
