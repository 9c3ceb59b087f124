"""What a guard is told of notice and consents: the one file that the operator makes and the guard reads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from domicile.api.common import BucketName, Model
from domicile.api.consent import Consent
from domicile.api.zone import Site


class GuardConsents(Model):
    """The file ``consents.json``."""

    consent: Annotated[Consent, Field(description="What people are asked.")]
    site: Annotated[Site, Field(description="The site, whose store keeps what they answered.")]
    bucket: Annotated[BucketName, Field(description="The tenant's live bucket.")]
