"""How much a door takes: mod_qos 11. It counts in each replica by itself, over all of its processes."""

from __future__ import annotations

from domicile.controllers.door.door import Limits
from domicile.controllers.door.words import whole

# Where the door writes the client's address for itself where the peer is an edge.
COUNTED_CLIENT = "X-Client-IP"
_COUNTED = "door_request"
_PATIENCE = 20


def everywhere(limits: Limits, edge: bool = False) -> list[str]:
    """The lines for the whole server; ``edge``: others stand before it and say whom they speak for."""
    seconds = whole(limits.seconds, "limits.seconds")
    return [
        "QS_ErrorResponseCode 429",
        # More clients than this at a time push out the ones that were silent longest.
        "QS_ClientEntries 20000",
        *_patience(edge, seconds),
        *([f"QS_ClientIpFromHeader {COUNTED_CLIENT}"] if edge else []),
        f"QS_ClientEventLimitCount {whole(limits.client_requests, 'client_requests', 32767)} {seconds} {_COUNTED}",
    ]


def _patience(edge: bool, seconds: int) -> list[str]:
    """A client that goes on when it is refused loses its connections: what is refused counts for the tenant, too, and
    one client must not use that up. An edge has one address for everybody, so it is spared."""
    if edge:
        return []
    return [f"QS_ClientEventBlockCount {_PATIENCE} {seconds}"]


def here(limits: Limits) -> list[str]:
    """The lines for a host whose requests count; probes use another."""
    return [
        "QS_SetEnvIfStatus 429 QS_Block",
        'Header always set Connection close "expr=%{REQUEST_STATUS} == 429"',
        f'SetEnvIf Request_URI "^" {_COUNTED}=1 tenant_request=1',
        f"QS_EventLimitCount tenant_request {whole(limits.tenant_requests, 'tenant_requests')} {limits.seconds}",
        f'QS_LocRequestLimitMatch "^/" {whole(limits.parallel, "parallel")}',
        f"QS_SrvMaxConnPerIP {whole(limits.client_connections, 'client_connections')}",
    ]
