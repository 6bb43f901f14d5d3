"""The AsyncAPI 3.0 document of the bus, from the streams, the flow, the headers and the exported schemas."""

from __future__ import annotations

from typing import Any

from qraft_bus.streams import STREAMS
from qraft_contracts import headers
from qraft_contracts.billing import BillingReply
from qraft_contracts.export import json_schemas
from qraft_contracts.flow import CALLS, FLOW, Edge

_REPLIES = "replies"
_HEADER_TEXTS = {
    headers.MESSAGE_ID: "Deterministic id, made from what the message is; the stream stores it once.",
    headers.SCHEMA: "Name and major of the payload's schema.",
    headers.AS_OF: "Only data up to this instant was used; end of the bar, exclusive.",
    headers.ORIGIN: "real, replay or simulated; the worst of the inputs.",
    headers.LINEAGE: "Snapshot or run that the message comes from.",
    headers.TRACEPARENT: "W3C trace context.",
}


def build_asyncapi() -> dict[str, Any]:
    """Return the document; the same code gives the same document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Qraft bus",
            "version": "0.1.0",
            "description": "JetStream, file storage, durable pull consumers, explicit acknowledgement. Streams: "
            + ", ".join(f"{spec.name} ({', '.join(spec.subjects)})" for spec in STREAMS),
        },
        "channels": {_key(edge.subject): _channel(edge) for edge in FLOW} | _call_channels(),
        "operations": _operations() | _call_operations(),
        "components": {
            "messages": {_key(edge.schema): _message(edge) for edge in FLOW} | _call_messages(),
            "schemas": _components(),
        },
    }


def _key(text: str) -> str:
    return text.replace(".", "-").replace("/", "-").replace("*", "any").replace(">", "all")


def _channel(edge: Edge) -> dict[str, Any]:
    name = _key(edge.schema)
    messages = {name: {"$ref": f"#/components/messages/{name}"}}
    return {"address": edge.subject, "description": edge.what, "messages": messages}


def _operations() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for edge in FLOW:
        channel = {"$ref": f"#/channels/{_key(edge.subject)}"}
        for service in edge.writers:
            found[f"{service}-sends-{_key(edge.subject)}"] = {"action": "send", "channel": channel}
        for service in edge.readers:
            found[f"{service}-receives-{_key(edge.subject)}"] = {"action": "receive", "channel": channel}
    return found


def _call_channels() -> dict[str, Any]:
    """Return a channel a question, and the one of all answers: an inbox that the asker names."""
    found: dict[str, Any] = {}
    for call in CALLS:
        name = _key(call.schema)
        found[_key(call.subject)] = {
            "address": call.subject,
            "description": f"question to {call.answerer}, one queue group",
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        }
    name = _key(BillingReply.SCHEMA)
    found[_REPLIES] = {
        "address": None,
        "description": "the inbox named in the question",
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }
    return found


def _call_operations() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for call in CALLS:
        reply = {"address": {"location": "$message.header#/reply"}, "channel": {"$ref": f"#/channels/{_REPLIES}"}}
        both = {"channel": {"$ref": f"#/channels/{_key(call.subject)}"}, "reply": reply}
        for service in call.callers:
            found[f"{service}-asks-{_key(call.subject)}"] = {"action": "send", **both}
        found[f"{call.answerer}-answers-{_key(call.subject)}"] = {"action": "receive", **both}
    return found


def _call_messages() -> dict[str, Any]:
    def message(schema: str) -> dict[str, Any]:
        return {
            "name": schema,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{_key(schema)}"},
        }

    return {_key(schema): message(schema) for schema in (*(call.schema for call in CALLS), BillingReply.SCHEMA)}


def _message(edge: Edge) -> dict[str, Any]:
    is_arrow = edge.schema in ("bars/1", "features/1")
    return {
        "name": edge.schema,
        "contentType": "application/vnd.apache.arrow.stream" if is_arrow else "application/json",
        "headers": {
            "type": "object",
            "required": list(headers.REQUIRED),
            "properties": {name: {"type": "string", "description": text} for name, text in _HEADER_TEXTS.items()},
        },
        "payload": {"$ref": f"#/components/schemas/{_key(edge.schema)}"},
    }


def _components() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, schema in json_schemas().items():
        for inner, definition in schema.get("$defs", {}).items():
            found[inner] = _relocated(definition)
        root = {key: value for key, value in schema.items() if key != "$defs"}
        found[_key(name)] = _relocated(root)
    return found


def _relocated(schema: Any) -> Any:
    """Return the schema with its references pointing into the document's components."""
    if isinstance(schema, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _relocated(value)
            for key, value in schema.items()
        }
    return [_relocated(item) for item in schema] if isinstance(schema, list) else schema
