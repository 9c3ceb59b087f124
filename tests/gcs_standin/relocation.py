"""Relocation of a bucket as its owner sees it: a long-running operation. Nothing is moved; tests end it themselves.

Source: Cloud Storage JSON API v1, Buckets: relocate and Operations: list; Bucket relocation (the bucket's location
changes only when everything was copied).
"""

from __future__ import annotations

from tests.gcs_standin.protocol import Call, operation
from tests.gcs_standin.refusal import Answer, RefusedError

_METADATA = "type.googleapis.com/google.storage.control.v2.RelocateBucketMetadata"


@operation("buckets.relocate", "POST", "/storage/v1/b/{bucket}/relocate", "storage.buckets.relocate")
def relocate(call: Call) -> Answer:
    body = call.document()
    destination = body.get("destinationLocation")
    if not isinstance(destination, str) or set(body) - {"destinationLocation", "validateOnly"}:
        raise RefusedError(400, "invalid", "Invalid relocation request")
    name = f"projects/_/buckets/{call.bucket.name}/operations/{call.state.next_generation()}"
    metadata = {"@type": _METADATA, "destinationLocation": destination.upper()}
    metadata["sourceLocation"] = call.bucket.resource["location"]
    metadata |= {"validateOnly": body["validateOnly"]} if "validateOnly" in body else {}
    started = {"kind": "storage#operation", "name": name, "done": False, "metadata": metadata}
    call.bucket.operations.append(started)
    return call.json(started)


@operation(
    "operations.list",
    *("GET", "/storage/v1/b/{bucket}/operations", "storage.bucketOperations.list"),
    *("pageSize", "pageToken"),
)
def list_operations(call: Call) -> Answer:
    first = call.integer("pageToken") or 0
    last = first + min(call.integer("pageSize") or call.state.page_limit, call.state.page_limit)
    page = {"kind": "storage#operations", "operations": call.bucket.operations[first:last]}
    more = {"nextPageToken": str(last)} if last < len(call.bucket.operations) else {}
    return call.json(page | more)
