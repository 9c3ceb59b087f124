"""The pods' access to their live bucket where it ends by itself: what there is, and when it is renewed. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from domicile.api import live_credentials
from domicile.api.common import GROUP
from domicile.controllers.tenant.view import LiveAccess, TenantView

STORE_SECRET = "store-credentials"  # noqa: S105 - the name of a Secret
ISSUED, OPENS = f"{GROUP}/issued-at", f"{GROUP}/opens"
# Shares of a life that are left: renewed from the first on, told from the second on.
_RENEWED_AT, _TOLD_AT = 3, 6


def told_in(view: TenantView) -> dict[str, str]:
    """What the Secret says of the credentials in it, so that a restarted operator mints none in vain."""
    found = view.live_access
    if found is None or found.content is None or found.issued is None:
        return {}
    return {ISSUED: found.issued.astimezone(UTC).isoformat(), OPENS: _opens(view, found.content)}


def look_at(view: TenantView, secret: Mapping[str, Any] | None) -> LiveAccess | None:
    """What the Secret holds, None unless it was minted for this bucket from this identity and still counts."""
    said = ((secret or {}).get("metadata") or {}).get("annotations") or {}
    try:
        content = base64.b64decode(((secret or {}).get("data") or {})[live_credentials.FILE], validate=True)
        issued, end = datetime.fromisoformat(said[ISSUED]), live_credentials.parse(content).expires_at
        ours = hmac.compare_digest(said[OPENS], _opens(view, content))
        if ours and end is not None and view.now < end and issued < end:
            return LiveAccess(content, issued, end)
    except (KeyError, TypeError, ValueError, binascii.Error):
        pass
    return None


def renewable(found: LiveAccess | None, now: datetime) -> bool:
    """Whether it is time for new ones: a third of the life is left, or none."""
    return found is None or _left(found, now) * _RENEWED_AT <= _life(found)


def ends_soon(found: LiveAccess, now: datetime) -> bool:
    """Whether a person should know that there are no newer ones: a sixth of the life is left, or none."""
    return found.content is None or _left(found, now) * _TOLD_AT <= _life(found)


def _left(found: LiveAccess, now: datetime) -> timedelta:
    return found.end - now if found.end else timedelta()


def _life(found: LiveAccess) -> timedelta:
    return found.end - found.issued if found.end and found.issued else timedelta()


def _opens(view: TenantView, content: bytes) -> str:
    whose = f"{view.live_identity}\n{view.live_bucket}\n".encode()
    return hashlib.sha256(whose + content).hexdigest()
