"""Operations on buckets, and on their IAM policies and notifications.

Source: Cloud Storage JSON API v1, Buckets and Notifications.
"""

from __future__ import annotations

import re
from typing import Any

from tests.gcs_standin import conditions
from tests.gcs_standin.bucket import SCHEMA, SETTABLE, check, check_rules, complete, invalid, merged, new_bucket
from tests.gcs_standin.protocol import Call, operation
from tests.gcs_standin.refusal import Answer, RefusedError

_LIST_SCHEMA = {"kind": None, "nextPageToken": None, "items": SCHEMA}


@operation("buckets.insert", "POST", "/storage/v1/b", "storage.buckets.create", "project", "projection")
def insert(call: Call) -> Answer:
    if not call.query.get("project"):
        raise RefusedError(400, "required", "Required parameter: project")
    body = call.document()
    made = new_bucket(call.state, body)
    call.state.buckets[made.name] = made
    return call.json(made.shown(call.base), SCHEMA)


@operation(
    "buckets.list",
    *("GET", "/storage/v1/b", "storage.buckets.list"),
    *("project", "prefix", "maxResults", "pageToken", "projection"),
)
def list_(call: Call) -> Answer:
    if not call.query.get("project"):
        raise RefusedError(400, "required", "Required parameter: project")
    prefix, after = call.query.get("prefix", ""), call.query.get("pageToken", "")
    limit = min(call.integer("maxResults") or call.state.page_limit, call.state.page_limit)
    names = sorted(name for name in call.state.buckets if name.startswith(prefix) and name > after)
    items = [call.state.buckets[name].shown(call.base) for name in names[:limit]]
    page: dict[str, Any] = {"kind": "storage#buckets"}
    if len(names) > limit:
        page["nextPageToken"] = names[limit - 1]
    if items:
        page["items"] = items
    return call.json(page, _LIST_SCHEMA)


@operation("buckets.get", "GET", "/storage/v1/b/{bucket}", "storage.buckets.get", "projection", *conditions.BUCKET)
def get(call: Call) -> Answer:
    conditions.check_bucket(call, call.bucket.metageneration)
    return call.json(call.bucket.shown(call.base), SCHEMA)


@operation(
    "buckets.patch", "PATCH", "/storage/v1/b/{bucket}", "storage.buckets.update", "projection", *conditions.BUCKET
)
def patch(call: Call) -> Answer:
    bucket = call.bucket
    conditions.check_bucket(call, bucket.metageneration)
    body = call.document()
    if "location" in body or "customPlacementConfig" in body:
        raise invalid("A bucket's location can't be changed by a patch.")
    check(body, SETTABLE)
    check_rules(body)
    changed = merged(bucket.resource, body)
    complete(changed, bucket.resource["location"], call.state.now())
    bucket.resource = changed
    bucket.metageneration += 1
    bucket.updated = call.state.now()
    return call.json(bucket.shown(call.base), SCHEMA)


@operation("buckets.delete", "DELETE", "/storage/v1/b/{bucket}", "storage.buckets.delete", *conditions.BUCKET)
def delete(call: Call) -> Answer:
    conditions.check_bucket(call, call.bucket.metageneration)
    if call.bucket.objects:
        raise RefusedError(409, "conflict", "The bucket you tried to delete is not empty.")
    del call.state.buckets[call.bucket.name]
    return Answer(204)


@operation("buckets.getStorageLayout", "GET", "/storage/v1/b/{bucket}/storageLayout", "storage.objects.list", "prefix")
def storage_layout(call: Call) -> Answer:
    held = call.bucket.resource
    layout = {"kind": "storage#storageLayout", "bucket": call.bucket.name}
    names = ("location", "locationType", "customPlacementConfig", "hierarchicalNamespace")
    return call.json(layout | {name: held[name] for name in names if name in held})


@operation("buckets.getIamPolicy", "GET", "/storage/v1/b/{bucket}/iam", "storage.buckets.getIamPolicy")
def get_policy(call: Call) -> Answer:
    resource = {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{call.bucket.name}"}
    return call.json(resource | call.bucket.policy | {"etag": "CAE="})


@operation("buckets.setIamPolicy", "PUT", "/storage/v1/b/{bucket}/iam", "storage.buckets.setIamPolicy")
def set_policy(call: Call) -> Answer:
    body = call.document()
    bindings = body.get("bindings", [])
    members = {member for binding in bindings for member in binding["members"]}
    enforced = call.bucket.resource["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    if enforced and members & {"allUsers", "allAuthenticatedUsers"}:
        message = "The member bindings allUsers and allAuthenticatedUsers are not allowed: public access prevention."
        raise RefusedError(412, "conditionNotMet", message)
    call.bucket.policy = {"version": body.get("version", 1), "bindings": bindings}
    return get_policy(call)


@operation("buckets.testIamPermissions", "GET", "/storage/v1/b/{bucket}/iam/testPermissions", None, "permissions")
def test_permissions(call: Call) -> Answer:
    asked = call.query.get("permissions", "").split(",")
    accounts = call.state.accounts
    held = [permission for permission in asked if accounts.allowed(call.caller, call.bucket.name, permission)]
    return call.json({"kind": "storage#testIamPermissionsResponse", **({"permissions": held} if held else {})})


@operation("notifications.insert", "POST", "/storage/v1/b/{bucket}/notificationConfigs", "storage.buckets.update")
def insert_notification(call: Call) -> Answer:
    body = call.document()
    kinds = {"topic": str, "payload_format": str, "event_types": list, "object_name_prefix": str}
    check(body, kinds | {"custom_attributes": dict})
    if not re.fullmatch(r"//pubsub\.googleapis\.com/projects/[^/]+/topics/[^/]+", str(body.get("topic"))):
        raise invalid("Invalid Google Cloud Pub/Sub topic.")
    if body.get("payload_format") not in {"JSON_API_V1", "NONE"}:
        raise RefusedError(400, "required", "Required: payload_format")
    held = call.bucket.notifications
    identity = str(max(map(int, held), default=0) + 1)
    link = f"{call.base}/storage/v1/b/{call.bucket.name}/notificationConfigs/{identity}"
    held[identity] = {"kind": "storage#notification", "id": identity, "selfLink": link, "etag": identity, **body}
    return call.json(held[identity])


@operation("notifications.list", "GET", "/storage/v1/b/{bucket}/notificationConfigs", "storage.buckets.get")
def list_notifications(call: Call) -> Answer:
    items = list(call.bucket.notifications.values())
    return call.json({"kind": "storage#notifications", **({"items": items} if items else {})})


@operation("notifications.get", "GET", "/storage/v1/b/{bucket}/notificationConfigs/{id}", "storage.buckets.get")
def get_notification(call: Call) -> Answer:
    return call.json(_notification(call))


@operation(
    "notifications.delete", "DELETE", "/storage/v1/b/{bucket}/notificationConfigs/{id}", "storage.buckets.update"
)
def delete_notification(call: Call) -> Answer:
    del call.bucket.notifications[_notification(call)["id"]]
    return Answer(204)


def _notification(call: Call) -> dict[str, Any]:
    if call.names["id"] not in call.bucket.notifications:
        raise RefusedError(404, "notFound", "Not Found")
    return call.bucket.notifications[call.names["id"]]
