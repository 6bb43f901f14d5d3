"""What may change within a major of a schema: additions that old readers ignore and old messages satisfy."""

from __future__ import annotations

from typing import Any


def breaking_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """
    Return why `new` would break a reader or a writer of `old`; empty = it may keep its major.

    Breaking are: a field removed, a field's type changed, a field that old messages lack made required, a required
    field made optional (readers rely on it), and for Arrow payloads any change of the leading columns, the removal of
    metadata, and an optional column that is gone or has another type.
    """
    if "columns" in old:
        return _arrow_changes(old, new)
    found: list[str] = []
    old_definitions, new_definitions = old.get("$defs", {}), new.get("$defs", {})
    for name, definition in old_definitions.items():
        if name not in new_definitions:
            found.append(f"{name} is gone")
            continue
        found += _object_changes(name, definition, new_definitions[name])
    return found


def _object_changes(name: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    if "enum" in old:
        gone = sorted(set(old["enum"]) - set(new.get("enum", [])))
        return [f"{name} no longer knows {gone}"] if gone else []
    found: list[str] = []
    old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
    for field, kind in old_fields.items():
        if field not in new_fields:
            found.append(f"{name}.{field} is gone")
        elif _without_default(kind) != _without_default(new_fields[field]):
            found.append(f"{name}.{field} changed its type")
    old_required, new_required = set(old.get("required", [])), set(new.get("required", []))
    found += [f"{name}.{field} became required" for field in sorted(new_required - old_required)]
    found += [f"{name}.{field} became optional" for field in sorted(old_required & new_fields.keys() - new_required)]
    return found


def _without_default(kind: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kind.items() if key not in ("default", "description", "title")}


def _arrow_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    found = []
    if new.get("columns", [])[: len(old["columns"])] != old["columns"]:
        found.append("the leading columns changed")
    gone = sorted(set(old["metadata"]) - set(new.get("metadata", [])))
    found += [f"metadata {gone} is gone"] if gone else []
    types = {column["name"]: column["type"] for column in new.get("optional_columns", [])}
    return found + [
        f"optional column {column['name']} {'changed its type' if column['name'] in types else 'is gone'}"
        for column in old.get("optional_columns", [])
        if types.get(column["name"]) != column["type"]
    ]
