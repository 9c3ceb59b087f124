"""Live against desired, without a server: the traps of equality."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.kube.compare import as_desired, covers, foreign, quantity, rules_equal, stale

json_values = st.recursive(
    st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
OURS = {"manager": "domicile", "operation": "Apply", "fieldsV1": {}}


@given(json_values)
def test_everything_covers_itself(value: Any) -> None:
    assert covers(value, value)


@given(st.dictionaries(st.text(), json_values), st.text(), json_values)
def test_a_further_map_entry_is_covered_and_a_further_list_item_is_not(
    value: dict[str, Any], key: str, more: Any
) -> None:
    assert covers({**value, key: more} if key not in value else value, value)
    assert not covers([value, more], [value])


@pytest.mark.parametrize(
    ("live", "desired", "same"),
    [
        (1, "1", False),
        (True, 1, False),
        ("a", "b", False),
        (None, {}, True),
        (None, [], True),
        ([{}], [], False),
        ({"a": 1}, {}, True),
        ({}, {"automountServiceAccountToken": False}, False),
        ({}, {"hostNetwork": False}, True),
        ({"hostNetwork": True}, {"hostNetwork": False}, False),
        ({"replicas": 0}, {"replicas": 0}, True),
        ({}, {"replicas": 0}, False),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1000m"}}, True),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1001m"}}, False),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": 1073741824}}, True),
        ({"limits": {}}, {"limits": {"memory": "1Gi"}}, False),
        ({"env": [{"name": "a", "value": "1"}]}, {"env": [{"name": "a", "value": "1000m"}]}, False),
        ({"env": [{"name": "b"}, {"name": "a"}]}, {"env": [{"name": "a"}, {"name": "b"}]}, True),
        (
            {"initContainers": [{"name": "b"}, {"name": "a"}]},
            {"initContainers": [{"name": "a"}, {"name": "b"}]},
            False,
        ),
        ({"args": ["b", "a"]}, {"args": ["a", "b"]}, False),
        ({"ports": [{"port": 80, "protocol": "TCP"}]}, {"ports": [{"port": 80}]}, True),
        ({"ports": [{"port": 80, "protocol": "UDP"}]}, {"ports": [{"port": 80}]}, True),
        ({"ports": [{"port": 80, "protocol": "UDP"}]}, {"ports": [{"port": 80, "protocol": "TCP"}]}, False),
    ],
)
def test_equality(live: Any, desired: Any, same: bool) -> None:
    assert covers(live, desired) is same


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), ("1Gi", "1073741824"), ("2k", "2000"), (3, "3"), ("1e3", "1000"), ("x", None), ("m", None)],
)
def test_quantities(text: Any, number: str | None) -> None:
    assert quantity(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("live", "desired", "same"),
    [
        ({"podSelector": {}}, {"podSelector": {}, "ingress": []}, True),
        ({"podSelector": {}, "ingress": [{}]}, {"podSelector": {}, "ingress": []}, False),
        ({"podSelector": {}}, {}, False),
        ({"ingress": [{"from": [{"podSelector": {}}]}]}, {"ingress": [{"from": [{"podSelector": {}}]}]}, True),
        (
            {"ingress": [{"from": [{"podSelector": {}, "namespaceSelector": {}}]}]},
            {"ingress": [{"from": [{"podSelector": {}}]}]},
            False,
        ),
        ({"egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}]}, {"egress": [{"ports": [{"port": 53}]}]}, True),
        ({"egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]}, {"egress": [{"ports": [{"port": 53}]}]}, False),
        ({"policyTypes": ["Egress", "Ingress"]}, {"policyTypes": ["Ingress", "Egress"]}, True),
        ({"policyTypes": ["Ingress"]}, {"policyTypes": ["Ingress", "Egress"]}, False),
    ],
)
def test_rules_are_equal_exactly(live: Any, desired: Any, same: bool) -> None:
    assert rules_equal({"spec": live}, {"spec": desired}) is same


def owned(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}}


@pytest.mark.parametrize(
    ("entry", "counts"),
    [
        ({"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}}, True),
        ({"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:data": {}}}, True),
        ({"manager": "domicile", "operation": "Update", "fieldsV1": {"f:spec": {}}}, True),
        ({"manager": "before-first-apply", "operation": "Update", "fieldsV1": {"f:spec": {}}}, True),
        ({"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:metadata": {}}}, False),
        ({"manager": "kcm", "operation": "Update", "fieldsV1": {"f:metadata": {}, "f:status": {}}}, False),
        ({"manager": "kcm", "operation": "Update", "subresource": "status", "fieldsV1": {"f:spec": {}}}, False),
    ],
)
def test_foreign_managers(entry: dict[str, Any], counts: bool) -> None:
    assert bool(foreign(owned(OURS, entry))) is counts


def test_an_object_without_our_entry_is_foreign() -> None:
    assert foreign({"metadata": {}}) == ["unknown"]


def test_fields_that_we_own_and_no_longer_want_are_stale() -> None:
    fields = {
        "f:spec": {
            "f:containers": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:image": {}}},
            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}},
            "f:finalizers": {'v:"x"': {}},
        }
    }
    live = owned({**OURS, "fieldsV1": fields})
    spec = {"containers": [{"name": "a", "image": "i"}], "ports": [{"port": 80}], "finalizers": ["x"]}
    assert not stale(live, {"spec": spec})
    assert stale(live, {"spec": {**spec, "containers": [{"name": "a"}]}})
    assert stale(live, {"spec": {**spec, "containers": [{"name": "b", "image": "i"}]}})
    assert stale(live, {"spec": {**spec, "ports": []}})
    assert stale(live, {"spec": {**spec, "finalizers": []}})
    assert stale(live, {"spec": {}})


def test_metadata_counts_as_far_as_it_is_desired() -> None:
    desired = {"kind": "ConfigMap", "metadata": {"name": "x", "labels": {"a": "b"}}}
    live = owned(OURS)
    live["metadata"]["labels"] = {"a": "b", "more": "c"}
    assert as_desired(live, desired)
    live["metadata"]["labels"]["a"] = "other"
    assert not as_desired(live, desired)
