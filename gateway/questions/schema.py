"""JSON Schema in a question (https://json-schema.org, draft 2020-12): what may name somebody in it is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from domicile.gateway.questions.refusal import RefusedError
from domicile.gateway.questions.rules import Anything, Pairs, Walk

_TYPES: Final = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_SCHEMAS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMA: Final = frozenset({"additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"})
_NAMED: Final = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_LOOKED_AT: Final = frozenset(
    {"$anchor", "$comment", "$id", "$ref", "$schema", "const", "default", "dependentRequired", "description", "enum",
     "example", "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "maximum", "minimum", "multipleOf",
     "pattern", "required", "title"}
)  # fmt: skip
_COUNTS: Final = frozenset({"maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"})
_FLAGS: Final = frozenset({"deprecated", "nullable", "readOnly", "uniqueItems", "writeOnly"})
_ANYTHING: Final = Anything()


@dataclass(frozen=True)
class Schema:
    """A schema: keywords stay, names of properties are texts, and so is what stands in a keyword that isn't known."""

    def apply(self, walk: Walk, value: Any, path: str) -> Any:
        """As Rule's."""
        if isinstance(value, bool):
            return value
        if not isinstance(value, dict):
            raise RefusedError(400, "invalid_value", f"{path} must be a JSON Schema.")
        known: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        for key, each in value.items():
            node = self._keyword(walk, key, each, path)
            if node is None:
                unknown[key] = each
            else:
                known[key] = node[0]
        if not unknown:
            return known
        # A keyword of somebody's own may be anything, its name included.
        strangers = _ANYTHING.apply(walk, unknown, path)
        return Pairs([*((walk.add(key, key), node) for key, node in known.items()), *strangers.items])

    def _keyword(self, walk: Walk, key: str, value: Any, path: str) -> tuple[Any] | None:
        """The node, in a tuple; None where the keyword does not have what it should."""
        match value:
            case str() | list() if key == "type" and _TYPES.issuperset(value if isinstance(value, list) else [value]):
                return (value,)
            case bool() if key in _FLAGS:
                return (value,)
            case int() if key in _COUNTS and not isinstance(value, bool) and 0 <= value <= 1_000_000:
                return (value,)
            case dict() | bool() if key in _SCHEMA:
                return (self.apply(walk, value, path),)
            case list() if key in _SCHEMAS:
                return ([self.apply(walk, each, path) for each in value],)
            case dict() if key in _NAMED:
                return (Pairs([(walk.add(name, name), self.apply(walk, each, path)) for name, each in value.items()]),)
            case _ if key in _LOOKED_AT:
                return (_ANYTHING.apply(walk, value, path),)
            case _:
                return None
