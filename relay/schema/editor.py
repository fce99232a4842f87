"""What has an editor to know, to complete these files and to check them?  JSON Schema, made of the models."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel

from relay.schema.providers import ProviderFile
from relay.schema.rules import RulesFile
from relay.schema.sources import PresetFile
from relay.schema.units import DURATION

Schema: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["rules", "provider", "source"]

_FILES: Final[Mapping[Kind, tuple[type[BaseModel], str]]] = {
    "rules": (RulesFile, "rules.toml"),
    "provider": (ProviderFile, "providers/NAME.toml"),
    "source": (PresetFile, "sources/NAME.toml"),
}

_PATTERN: Final[Schema] = {"$ref": "#/$defs/Pattern"}
_PATTERNS: Final = frozenset({"when", "recovered", "running", "failed", "more"})
"""Keys whose tables are patterns."""

_SECRET: Final[Schema] = {
    "type": "string",
    "pattern": r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/.*)$",
    "description": "where a secret is: env:NAME or file:/path; never the secret itself",
}

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_FLAG: Final[Schema] = {"type": "boolean"}
_ANY_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_LITERAL: Final[Schema] = {"type": ["string", "number", "boolean"]}
_OPERATOR: Final[Schema] = {"$ref": "#/$defs/Operator"}


def _one(**properties: Schema) -> Schema:
    """Take a table with one of these keys."""
    named = {name.replace("_", "-"): schema for name, schema in properties.items()}
    return {
        "type": "object",
        "properties": named,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _some(*items: Schema) -> Schema:
    """Take an item, or a list of items."""
    several: list[Schema] = [{"type": "array", "items": item, "minItems": 1} for item in items]
    return {"anyOf": [*items, *several]}


def _pairs(*comparisons: str, then: Schema) -> Schema:
    return {"type": "array", "prefixItems": [{"enum": list(comparisons)}, then]}


_EDGE: Final[Schema] = {"anyOf": [_TEXT, _one(equals_ignore_case=_TEXT)]}
_COMPARISONS: Final = ("=", "<", "<=", ">", ">=")
_TIME: Final[Schema] = {"type": "string", "pattern": DURATION}

OPERANDS: Final[Mapping[str, tuple[Schema, str]]] = {
    "exactly": (_TEXT, "this text, whatever else it could mean here"),
    "prefix": (_EDGE, "text that starts so"),
    "suffix": (_EDGE, "text that ends so"),
    "equals-ignore-case": (_TEXT, "this text, in any case"),
    "wildcard": (_TEXT, r"text like this: * is any text, \* a star"),
    "regex": ({"type": "string", "maxLength": 1000}, "text that this regular expression of RE2 fits whole"),
    "anything-but": (
        {
            "anyOf": [
                _some(_TEXT, _NUMBER),
                _one(
                    prefix=_some(_ANY_TEXT),
                    suffix=_some(_ANY_TEXT),
                    equals_ignore_case=_some(_TEXT),
                    wildcard=_some(_TEXT),
                    regex=_some(_TEXT),
                    cidr=_some(_TEXT),
                ),
            ]
        },
        "a value that is none of these",
    ),
    "exists": (_FLAG, "a value is there, or none"),
    "is-null": (_FLAG, "null, or anything else"),
    "numeric": (
        _pairs(*_COMPARISONS, then=_NUMBER)
        | {"minItems": 2, "maxItems": 4, "items": {"anyOf": [{"enum": ["<", "<="]}, _NUMBER]}},
        'a number in a range: [">=", 1] or [">", 0, "<=", 5]',
    ),
    "cidr": ({"type": "string", "pattern": r"/\d{1,3}$"}, "an address in this block: 10.0.0.0/8"),
    "all-of": (
        {"type": "array", "items": {"anyOf": [_LITERAL, _OPERATOR]}, "minItems": 1},
        "a value that meets all of these",
    ),
    "field": (
        _pairs(*_COMPARISONS, "!=", then=_ANY_TEXT) | {"minItems": 2, "maxItems": 2},
        'compared with another field: ["<", "max_attempts"]',
    ),
    "after": (_TEXT, "a time after this: 2026-01-31T08:00:00Z"),
    "before": (_TEXT, "a time before this"),
    "older-than": (_TIME, "a time that is longer ago than this: 15m"),
    "newer-than": (_TIME, "a time that is not as long ago as this"),
}
"""What stands behind each operator of a pattern, and what it means."""


def _language(*, events: bool) -> dict[str, Schema]:
    """Return what a pattern is made of: fields, their values, and operators."""
    either = {"type": "array", "items": _PATTERN, "minItems": 2}
    field = {"$ref": "#/$defs/Field"}
    known: dict[str, Schema] = {
        "$or": {**either, "description": "one of these patterns"},
        "any-of": {**either, "description": "one of these patterns; several may stand in one table"},
    }
    if events:
        known |= {
            "$source": {**field, "description": "the source that the event came from"},
            "$type": {**field, "description": "its type, as the source finds it"},
            "$verified": {**field, "description": "how far its sender is known"},
            "$id": {**field, "description": "its id"},
            "$received_at": {**field, "description": "when it came, in milliseconds since 1970"},
            "$resource": {**field, "description": "what it is about, as the source finds it"},
            "$failed": {**field, "description": "if it says, as the source reads it, that it has failed"},
            "$recovered": {**field, "description": "if it says, as the source reads it, that it is well"},
            "$headers": {**field, "description": "its headers, by their names in small letters"},
        }
    # What stands alone in a field is a pattern over what is in it, unless a key of it is an operator.
    nested = {"allOf": [_PATTERN], "propertyNames": {"not": {"enum": list(OPERANDS)}}}
    items = {"anyOf": [_LITERAL, _OPERATOR]}
    return {
        "Pattern": {
            "type": "object",
            "description": "what an event must look like: all fields must be met",
            "properties": known,
            "additionalProperties": field,
            "minProperties": 1,
        },
        "Field": {
            "description": "values and operators, of which one must be met; or fields further in",
            "anyOf": [*items["anyOf"], {"type": "array", "items": items, "minItems": 1}, nested],
        },
        "Operator": {
            "type": "object",
            "properties": {
                name: {**schema, "description": line} for name, (schema, line) in OPERANDS.items()
            },
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 1,
        },
    }


def for_editors(kind: Kind) -> Schema:
    """Return the JSON Schema (draft 2020-12) of one kind of file."""
    model, title = _FILES[kind]
    made = model.model_json_schema()
    defs: dict[str, Schema] = made.pop("$defs", {})
    if kind == "provider":
        # Such a file may lie over a built-in one, and has only what differs then; lists are replaced whole.
        for table in (made, *(defs[name] for name in _laid(made, defs))):
            table.pop("required", None)
    if "SettingsFile" in defs:
        defs["SettingsFile"]["additionalProperties"] = _SECRET
    defs = {name: _tidy(table) for name, table in defs.items()} | _language(events=kind != "provider")
    top = _tidy(made) | {"title": title}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top, "$defs": defs}


def _laid(table: Schema, defs: Mapping[str, Schema]) -> set[str]:
    """Name the tables that are reached without passing a list."""
    found: set[str] = set()
    rows = [table]
    while rows:
        names = {name for row in rows for name in _referred(row)} - found
        found |= names
        rows = [defs[name] for name in names]
    return found


def _referred(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for key, item in node.items():
            if key != "items":
                yield from _referred(item)
    elif isinstance(node, list):
        for item in node:
            yield from _referred(item)


def _tidy(table: Schema) -> Schema:
    """Take out what only Python knows, and put in what patterns and secrets are."""
    table = {**table, "title": table["title"].removesuffix("File")}
    if "description" in table:
        table["description"] = table["description"].replace("``", "`")
    if "properties" in table:
        table["properties"] = {name: _property(name, one) for name, one in table["properties"].items()}
    return table


def _property(name: str, schema: Schema) -> Schema:
    """Return one key's schema: no null, which TOML has not, and no default that says nothing."""
    shown: Schema = {key: item for key, item in schema.items() if key != "title"}
    if shown.get("default") in (None, "", []) or isinstance(shown.get("default"), dict):
        shown.pop("default", None)
    kept = [one for one in shown.pop("anyOf", []) if one != {"type": "null"}]
    if name in _PATTERNS:
        kept = [_as_pattern(one) for one in kept]
        if shown.get("type") == "object":
            shown = {"description": shown["description"]} | _PATTERN
    if name == "secrets":
        kept = [_as_secret(one) for one in kept]
    if len(kept) == 1:
        return {**kept[0], **shown}
    return shown | ({"anyOf": kept} if kept else {})


def _as_pattern(schema: Schema) -> Schema:
    """Say that a table, or each of a list, is a pattern."""
    if schema.get("type") == "array":
        return {**schema, "items": _PATTERN, "minItems": 1}
    return _PATTERN if schema.get("type") == "object" else schema


def _as_secret(schema: Schema) -> Schema:
    return {**schema, "items": _SECRET} if schema.get("type") == "array" else _SECRET
