"""The OpenAPI 3.1 document, made of the same table and types that serve the calls."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from svc_imagegen.api.errors import ErrorEnvelope
from svc_imagegen.api.resource import Operation

_VERSION: Final = "1"
_REF: Final = "#/components/schemas/{name}"
_ANY_STATUS: Final = (400, 404, 405, 408, 409, 413, 416, 429, 500, 502, 503, 504)
_JSON: Final = "application/json"
_FORM: Final = "multipart/form-data"
_ADDRESSES: Final = ("images", "mask")  # in a form they are files
_FILE: Final = {"type": "string", "format": "binary"}
_WORDS: Final = {
    200: "Done",
    201: "Made",
    202: "Accepted; the result is fetched from Location",
    204: "Done, nothing to tell",
    206: "The part asked for",
    304: "Not changed",
}


def document(operations: Sequence[Operation]) -> bytes:
    """Return the document as JSON."""
    kinds = _kinds(operations)
    refs, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    schemas = dict(zip(kinds, refs, strict=True))
    for kind in {it for operation in operations for it in (operation.body or {}).values()}:
        components[kind.__name__]["additionalProperties"] = False
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = re.sub(r"\{(\w+):path\}", r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, schemas, components)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Qraft images", "version": _VERSION, "description": _DESCRIPTION},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


_DESCRIPTION: Final = (
    "OpenAI's images interface under /v1, and asynchronous jobs under /api. Fields of image calls that are not listed "
    "are passed on if the model's provider supports them, and refused otherwise. `x-should-retry: false` marks answers "
    "that stay the same if the call is repeated."
)


def _kinds(operations: Iterable[Operation]) -> list[type]:
    kinds: list[type] = [ErrorEnvelope]
    for operation in operations:
        kinds.extend(it for it in (operation.body or {}).values() if it not in kinds)
        answers = [it for found in operation.answers.values() for it in found]
        kinds.extend(it for it in answers if isinstance(it, type) and it not in kinds)
    return kinds


def _operation(operation: Operation, schemas: dict[type, Any], components: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {str(status): _answer(status, it, schemas) for status, it in operation.answers.items()},
        "security": [{"key": []}] if operation.scope else [],
    }
    error = {
        "description": "Refused, or failed; error.message says why and what it means for credits",
        "content": {_JSON: {"schema": schemas[ErrorEnvelope]}},
    }
    statuses = (*_ANY_STATUS, 401, 403) if operation.scope else _ANY_STATUS
    shown["responses"].update({str(status): error for status in sorted(statuses)})
    if operation.parameters:
        shown["parameters"] = [
            {
                "name": it.name,
                "in": it.where,
                "required": it.where == "path",
                "schema": it.schema,
                "description": it.text,
            }
            for it in operation.parameters
        ]
    if operation.body:
        content = {
            media: {"schema": _form(components[it.__name__], operation.files) if media == _FORM else schemas[it]}
            for media, it in operation.body.items()
        }
        shown["requestBody"] = {"required": True, "content": content}
    return shown


def _answer(status: int, kinds: Sequence[type | str], schemas: dict[type, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"description": _WORDS[status]}
    content = {
        it if isinstance(it, str) else _JSON: {"schema": _any(it) if isinstance(it, str) else schemas[it]}
        for it in kinds
    }
    return shown | ({"content": content} if content else {})


def _any(media: str) -> dict[str, str]:
    return {"type": "object" if media == _JSON else "string"}


def _form(fields: dict[str, Any], files: Sequence[str]) -> dict[str, Any]:
    """Return the schema of a form: the fields that are no pictures, and the files."""
    names = [it for it in fields["properties"] if it not in _ADDRESSES]
    properties = {it: fields["properties"][it] for it in names}
    properties.update({it: {"type": "array", "items": _FILE} if it.endswith("[]") else _FILE for it in files})
    required = [it for it in fields.get("required", ()) if it in properties]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
