"""From what a client sent to checked fields: one decode, the table's types, errors that name the field."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, TypeVar

import msgspec

from svc_imagegen.domain.failures import CallRefused, Kind
from svc_imagegen.domain.validate import FieldInvalid, check_extras

FieldsT = TypeVar("FieldsT", bound=msgspec.Struct)
Extras = dict[str, str | int | float | bool]

_INLINE_BYTES_MAX: Final = 1 << 20  # larger bodies are decoded in a thread: about 5 ms a MiB
_AT: Final = re.compile(r"(.*) - at `\$\.?(.*)`$", re.DOTALL)
_MISSING: Final = re.compile(r"missing required field `([^`]+)`")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]+)`")
_INTEGER: Final = re.compile(r"-?[0-9]{1,15}")
_CODES: Final = (
    (re.compile(r"Invalid enum value"), "invalid_value"),
    (re.compile(r"Expected `int` <="), "integer_above_max_value"),
    (re.compile(r"Expected `int` >="), "integer_below_min_value"),
    (re.compile(r"of length <="), "string_above_max_length"),
    (re.compile(r"of length >="), "string_below_min_length"),
    (re.compile(r"matching regex"), "invalid_value"),
)


async def decode_object(body: bytes) -> dict[str, Any]:
    """
    Return the JSON object that a body is.

    Raises:
        CallRefused: for anything else.
    """
    if len(body) > _INLINE_BYTES_MAX:
        return await asyncio.to_thread(_decode, body)
    return _decode(body)


def take_fields(kind: type[FieldsT], raw: dict[str, Any], *, is_form: bool = False) -> tuple[FieldsT, Extras]:
    """
    Return the fields that the table knows and, checked for shape only, those that a provider may know.

    is_form: numbers and booleans are texts, and an empty text means the default.

    Raises:
        CallRefused: naming the field.
    """
    known = {name: raw[name] for name in kind.__struct_fields__ if name in raw}
    unknown = {name: value for name, value in raw.items() if name not in known}
    if is_form:
        known = {name: value for name, value in known.items() if value != ""}
        unknown = {name: _number(value) for name, value in unknown.items() if value != ""}
    try:
        fields = msgspec.convert(known, kind, strict=not is_form)
        extras = check_extras(unknown)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from error
    except FieldInvalid as error:
        raise invalid(error) from error
    for name, value in (*known.items(), *extras.items()):
        if isinstance(value, str) and "\x00" in value:
            message = f"Expected {name} to be text without NUL characters."
            raise CallRefused(Kind.INVALID, "invalid_value", message, param=name)
    return fields, extras


def take_exactly(kind: type[FieldsT], raw: dict[str, Any]) -> FieldsT:
    """Return the fields of a body that has no further ones; raises as `take_fields` does."""
    fields, extras = take_fields(kind, raw)
    for name in extras:
        raise CallRefused(Kind.INVALID, "unknown_parameter", f"Unknown parameter: {name!r}.", param=name)
    return fields


def invalid(error: FieldInvalid) -> CallRefused:
    """Return a broken rule as the refusal it is."""
    return CallRefused(Kind.INVALID, error.code, error.message, param=error.param)


def _decode(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise CallRefused(Kind.INVALID, "invalid_json", f"The body is no JSON that can be read: {error}.") from error
    if not isinstance(decoded, dict):
        raise CallRefused(Kind.INVALID, "invalid_json", "Expected the body to be a JSON object.")
    return decoded


def _refusal(text: str) -> CallRefused:
    found = _AT.match(text)
    message, path = (found[1], found[2]) if found else (text, "")
    if missing := _MISSING.search(message):
        param = f"{path}.{missing[1]}" if path else missing[1]
        return CallRefused(Kind.INVALID, "missing_required_parameter", f"Missing {param!r}.", param=param)
    if unknown := _UNKNOWN.search(message):
        param = f"{path}.{unknown[1]}" if path else unknown[1]
        return CallRefused(Kind.INVALID, "unknown_parameter", f"Unknown parameter: {param!r}.", param=param)
    code = next((code for pattern, code in _CODES if pattern.search(message)), "invalid_type")
    return CallRefused(Kind.INVALID, code, f"{path or 'body'}: {message}.", param=path or None)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else value
