"""Partial responses: what the ``fields`` parameter leaves of a resource.

Source: Cloud Storage, Performance tips: partial response.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tests.gcs_standin.refusal import RefusedError

Selection = dict[str, "Selection"]


@lru_cache(maxsize=256)
def selection(text: str) -> Selection:
    """The tree of a ``fields`` expression; an empty branch means all of it. Raises RefusedError (400)."""
    tree: Selection = {}
    base, at, outer = tree, tree, []
    for token in re.findall(r"[\w*]+|.", text):
        match token:
            case "/":
                continue
            case ",":
                at = base
            case "(":
                outer.append(base)
                base = at
            case ")" if outer:
                base = at = outer.pop()
            case _:
                at = at.setdefault(token, {})
    if outer or re.search(r"(^|[,(/])([,)/(]|$)|\)[^,)]|[^\w*,()/]", text) or text.count("(") != text.count(")"):
        raise RefusedError(400, "invalidParameter", f"Invalid field selection {text}")
    return tree


def check(tree: Selection, schema: Mapping[str, Any]) -> None:
    """Raise RefusedError (400) for a field that the resource does not have."""
    for name, branch in tree.items():
        if name != "*" and name not in schema:
            raise RefusedError(400, "invalidParameter", f"Invalid field selection {name}")
        inner = schema.get(name)
        if branch and inner:
            check(branch, inner)


def select(tree: Selection, value: Any) -> Any:
    """What the selection leaves of a resource."""
    if not tree:
        return value
    if isinstance(value, list):
        return [select(tree, entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        name: select(tree[name if name in tree else "*"], inner)
        for name, inner in value.items()
        if name in tree or "*" in tree
    }
